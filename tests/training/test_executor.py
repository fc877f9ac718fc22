import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from chain_runner import ChainRunner
from training.conftest import ENGLISH, Pico, stage, target

import tunexfer.store as store_module
import tunexfer.training.executor as module
from tunexfer.core.chain import Chain, Target
from tunexfer.data.prepare import Prepared
from tunexfer.errors import StudyError, TrialFailed
from tunexfer.store import MARK, MODEL, StageStore
from tunexfer.training.executor import Executor

SCORED = {"match": ("en", "ru"), "tags": ("en", "ru"), "pairs": ("de",)}
RUN = """
import json, sys
from pathlib import Path
from tunexfer.core.chain import Chain
from tunexfer.data.prepare import Prepared
from chain_runner import ChainRunner
from tunexfer.store import StageStore
prepared, store, chain = sys.argv[1:]
runner = ChainRunner(Prepared.load(Path(prepared)), StageStore(Path(store)))
print("ready", flush=True)
input()
result = runner.run(Chain.from_dict(json.loads(chain)), seed=1)
print(json.dumps([[score.value for score in result.scores], [s.name for s in result.trainings if not s.reused]]))
"""


@pytest.fixture(scope="module")
def prepared(pico: Pico) -> Prepared:
    return pico.prepared(ENGLISH | {"match": ("en", "de")}, SCORED)


@pytest.fixture
def runner(pico: Pico, prepared: Prepared, tmp_path: Path) -> ChainRunner:
    return pico.runner(tmp_path / "store", prepared)


def two_targets(pico: Pico, rate: float = 3e-3, **encoder: Any) -> Chain:
    """A stage on choice, then match and tags, then pairs as it is."""
    return pico.chain((stage("choice"),), (target("match", rate=rate), target("tags"), Target(task="pairs")), **encoder)


@contextmanager
def other_process(prepared: Prepared, chain: Chain, store: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that runs the chain once a line is written to it, and prints its scores and what it trained."""
    arguments = [sys.executable, "-c", RUN, str(prepared.path), str(store), json.dumps(chain.as_dict())]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    pipes["env"] = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # the tests' own modules too
    with subprocess.Popen(arguments, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


def test_every_target_is_scored_in_every_language_and_split(runner: ChainRunner, pico: Pico) -> None:
    result = runner.run(two_targets(pico), seed=1)
    main = [(score.target, score.language, score.split) for score in result.scores if score.main]
    assert sorted(main) == sorted(
        (task, language, split)
        for task, languages in SCORED.items()
        for language in languages
        for split in ("validation", "test")
    )
    assert {score.metric for score in result.scores if score.target == "tags" and score.main} == {"f1"}
    assert {(s.target, s.language) for s in result.scores if not s.unseen} == {("match", "en"), ("tags", "en")}
    assert len(result.rows) == 10 * len(main)
    assert [(s.name, s.steps, s.reused) for s in result.trainings] == [
        ("choice", 8, False), ("match", 8, False), ("tags", 8, False),
    ]  # fmt: skip
    assert result.seconds > sum(s.seconds for s in result.trainings) > 0


def test_two_trials_train_what_they_share_once(runner: ChainRunner, pico: Pico, trained: list[str]) -> None:
    first = runner.run(two_targets(pico), seed=1)
    second = runner.run(two_targets(pico, rate=1e-3), seed=1)
    assert trained == ["choice", "match", "tags", "match"]
    assert [s.reused for s in second.trainings] == [True, False, True]
    assert [s for s in first.scores if s.target != "match"] == [s for s in second.scores if s.target != "match"]


def test_a_chain_run_before_is_read_and_nothing_is_loaded(
    runner: ChainRunner, pico: Pico, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = runner.run(two_targets(pico), seed=1)
    monkeypatch.setattr(module, "PlanEncoder", None)
    again = ChainRunner(runner.prepared, runner.store).run(two_targets(pico), seed=1)
    assert again.scores == first.scores
    assert again.rows.equals(first.rows)
    assert all(s.reused for s in again.trainings)


def test_scores_are_the_same_bit_for_bit_whether_stages_are_trained_or_read(
    runner: ChainRunner, pico: Pico, prepared: Prepared, tmp_path: Path, trained: list[str]
) -> None:
    runner.run(pico.chain((stage("choice"),), (target("match"),)), seed=1)
    assert trained == ["choice", "match"]
    read = runner.run(two_targets(pico), seed=1)
    fresh = pico.runner(tmp_path / "fresh", prepared).run(two_targets(pico), seed=1)
    assert read.scores == fresh.scores
    assert weights(runner) == weights(pico.runner(tmp_path / "fresh", prepared))


def weights(runner: ChainRunner) -> dict[str, str]:
    """Checksums of the models in a runner's store."""
    marks = [json.loads(path.read_text()) for path in runner.store.root.glob(f"entries/*/*/{MARK}")]
    return {mark["fingerprint"]: mark["files"][MODEL] for mark in marks if MODEL in mark["files"]}


def test_processes_that_ask_at_once_train_every_stage_once_and_as_one_alone_does(
    runner: ChainRunner, pico: Pico, prepared: Prepared, tmp_path: Path
) -> None:
    chain, shared = two_targets(pico), pico.runner(tmp_path / "shared", prepared)
    alone = runner.run(chain, seed=1)
    with other_process(prepared, chain, tmp_path / "shared") as process:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        here = shared.run(chain, seed=1)
        there_scores, trained_there = json.loads(process.communicate()[0])
    assert there_scores == [score.value for score in here.scores] == [score.value for score in alone.scores]
    trained_here = [training.name for training in here.trainings if not training.reused]
    assert sorted(trained_here + trained_there) == ["choice", "match", "tags"]
    assert weights(shared) == weights(runner)


def test_another_seed_shares_nothing(runner: ChainRunner, pico: Pico, trained: list[str]) -> None:
    chain = pico.chain((), (target("match"),))
    assert runner.run(chain, seed=1).scores
    runner.run(chain, seed=2)
    assert trained == ["match", "match"]


@pytest.mark.parametrize("freeze", [False, True])
def test_plans_that_cut_the_vocabulary_differently_share_stages(
    pico: Pico, prepared: Prepared, tmp_path: Path, trained: list[str], freeze: bool
) -> None:
    small = pico.prepared({"choice": ("en",), "match": ("en",)}, {"match": ("en",)})
    assert len(small.all_token_ids) < len(prepared.all_token_ids) - 20
    chain = two_targets(pico, freeze_embeddings=freeze)
    only = pico.chain((stage("choice"),), (target("match"),), freeze_embeddings=freeze)
    pico.runner(tmp_path / "shared", small).run(only, seed=1)
    assert trained == ["choice", "match"]
    shared = pico.runner(tmp_path / "shared", prepared)
    result = shared.run(chain, seed=1)
    assert trained == ["choice", "match", "tags"]
    alone = pico.runner(tmp_path / "alone", prepared)
    assert alone.run(chain, seed=1).scores == result.scores
    assert weights(alone) == weights(shared)


@pytest.mark.parametrize("damage", ["flipped", "unmarked", "truncated"])
def test_a_damaged_stage_is_trained_again_to_the_same_scores(
    runner: ChainRunner, pico: Pico, trained: list[str], damage: str
) -> None:
    chain = two_targets(pico)
    first = runner.run(chain, seed=1)
    for job in runner.jobs(chain):
        break_entry(runner.store.root / "entries" / job.key[:2] / job.key, damage)
    again = ChainRunner(runner.prepared, StageStore(runner.store.root)).run(chain, seed=1)
    assert again.scores == first.scores
    assert trained == ["choice", "match", "tags"] * 2


def break_entry(folder: Path, damage: str) -> None:
    file = next(path for path in folder.iterdir() if path.name != MARK)
    content = bytearray(file.read_bytes())
    if damage == "unmarked":
        (folder / MARK).unlink()
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(content[: len(content) // 2])


def test_kept_results_outlast_the_limit_of_the_store(pico: Pico, prepared: Prepared, tmp_path: Path) -> None:
    store = StageStore(tmp_path / "store", limit_bytes=0)
    runner = pico.runner(store, prepared)
    chain = two_targets(pico)
    with store.lease() as keep:
        keep([job.key for job in runner.jobs(chain)])
        runner.run(chain, seed=1)
        assert store.bytes() > 50_000
    runner.run(pico.chain((), (Target(task="pairs"),)), seed=1)
    assert store.bytes() == 0


def test_a_full_disk_costs_the_reuse_and_not_the_trial(
    runner: ChainRunner, pico: Pico, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    expected = pico.runner(tmp_path / "roomy", prepared).run(two_targets(pico), seed=1)
    whole = store_module.write_whole

    def full(path: Path, content: bytes) -> None:
        if path.suffix == ".safetensors":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(path, content)

    monkeypatch.setattr(store_module, "write_whole", full)
    result = runner.run(two_targets(pico), seed=1)
    assert result.scores == expected.scores
    assert result.rows.equals(expected.rows)
    assert "No space left on device" in result.warnings[0]


def test_running_out_of_memory_fails_the_trial_and_says_what_to_try(
    runner: ChainRunner, pico: Pico, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(module, "train_stage", full)
    with pytest.raises(TrialFailed, match=r"Tried to allocate .* down to single rows: give the job more memory"):
        runner.run(two_targets(pico), seed=1)


def test_an_allocation_no_machine_can_make_fails_the_trial(
    runner: ChainRunner, pico: Pico, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "train_stage", lambda *_, **__: torch.empty(10**15))
    with pytest.raises(TrialFailed, match="out of memory"):
        runner.run(two_targets(pico), seed=1)


def test_an_error_of_our_own_keeps_its_type(runner: ChainRunner, pico: Pico, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes don't match")

    monkeypatch.setattr(module, "train_stage", wrong)
    with pytest.raises(RuntimeError, match="shapes"):
        runner.run(two_targets(pico), seed=1)


def test_a_failed_stage_leaves_its_lock_free(runner: ChainRunner, pico: Pico) -> None:
    wild = stage("choice", rate=1e30, training={"max_grad_norm": 0.0, "warmup_steps": 0})
    for _ in range(2):
        with pytest.raises(TrialFailed, match="the loss is nan"):
            runner.run(pico.chain((wild,), (target("match"),)), seed=1)


def test_several_gpus_in_one_trial_are_refused(
    pico: Pico, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(StudyError, match="sees 2 GPUs, but a job runs on one"):
        Executor({}, StageStore(tmp_path), device="cuda", threads=1)


def test_progress_has_the_steps_and_the_loss_of_a_training_and_the_rows_of_an_evaluation(
    runner: ChainRunner, pico: Pico
) -> None:
    seen: list[tuple[str, int, int, bool]] = []
    chain = pico.chain((stage("choice", steps=12),), (target("match"), Target(task="pairs")))
    runner.run(chain, seed=1, on_step=lambda job, at, of, loss: seen.append((str(job)[:14], at, of, loss is not None)))
    assert seen == [
        ("train choice: ", 10, 12, True), ("train choice: ", 12, 12, True), ("train match: 1", 8, 8, True),
        *(("evaluate match", done, 4, False) for done in range(4)),
        *(("evaluate pairs", done, 2, False) for done in range(2)),
    ]  # fmt: skip


def test_a_layer_of_a_retrieval_target_has_scores_of_its_own_and_needs_no_training_again(
    runner: ChainRunner, pico: Pico, trained: list[str]
) -> None:
    for layer in (None, 0):
        runner.run(pico.chain((stage("choice"),), (Target(task="pairs", layer=layer),)), seed=1)
    entries = list(runner.store.root.glob("entries/*/*"))
    assert len(entries) == 1 + 2  # the stage, and each layer's scores
    assert trained == ["choice"]
