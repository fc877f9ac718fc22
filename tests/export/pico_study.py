"""Studies of one trial over the pico suite, really trained and recorded, with a stage store beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from chain_runner import ChainRunner, Ran
from pico import pico_encoder, pico_suite

from tunexfer.core.chain import Chain
from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.data.prepare import prepare
from tunexfer.plan.plan import Plan
from tunexfer.record.record import Record
from tunexfer.store import StageStore


def target(task: str, steps: int = 12, rate: float = 3.0e-3) -> dict[str, Any]:
    return {"task": task, "train_language": "en", "learning_rate": rate, "steps": steps, "batch_size": 8}


TARGETS = [
    target("match", 60, 1.0e-3),
    target("tags"),
    target("choice"),
    target("answer"),
    {"task": "pairs", "layer": 1},
]
STAGE = {"name": "before", "tasks": ["tags", "match"], "languages": ["ru", "de"], "learning_rate": 3.0e-3, "steps": 6}


@dataclass(frozen=True)
class Made:
    folder: StudyFolder
    store: StageStore
    cache: Path


def study(path: Path, **space: Any) -> Made:
    """Train and record the chain of a space in which nothing is left open: trial 1, or 0 where it has no stage."""
    pico_suite(path)
    encoder = {"name": str(pico_encoder(path / "encoder")), **space.pop("encoder", {})}
    plain = {"name": "pico", "suite": "pico.yaml", "encoder": encoder, "stages": [STAGE], "targets": TARGETS}
    plain |= {"resources": {"precision": "fp32"}, "search": {"seed": 3}, "noise": {"seeds": 1}} | space
    (path / "space.yaml").write_text(yaml.safe_dump(plain))
    plan = Plan.load(path / "space.yaml", cache=path / "cache")
    made = Made(StudyFolder(path / "pico"), StageStore(path / "store"), path / "cache")
    [chain] = plan.every_chain() or []
    chains = [plan.baseline[1], chain] if chain.stages else [chain]
    with Record.drive(made.folder, plan.as_dict()) as record:
        for number, result in enumerate(run(plan, chains, made.store)):
            trial = Trial(
                number=number,
                phase="search" if number else "baseline",
                seed=plan.seed,
                point={},
                chain=chains[number],
            )
            record.begin(trial)
            objective = plan.objective.value(result.scores, trial.chain)
            done = TrialResult(
                trial=trial,
                state="complete",
                started=0.0,
                seconds=1.0,
                objective=objective,
                jobs=result.jobs,
                scores=result.scores,
            )
            record.finish(done, [result.rows])
    return made


def run(plan: Plan, chains: list[Chain], store: StageStore) -> list[Ran]:
    """The chains of a plan, trained on one thread."""
    prepared = prepare(
        suite=plan.suite,
        folder=plan.suite_folder,
        encoder=chains[0].encoder,
        sources=plan.possible_sources,
        evaluated=plan.evaluated,
        precision=plan.precision,
        cache=plan.rows.cache,
    )
    runner = ChainRunner(prepared, store)
    return [runner.run(chain, seed=plan.seed) for chain in chains]


def encoder_of(architecture: str, folder: Path) -> Path:
    """The sizes and the tokenizer of the pico encoder with another architecture and random weights."""
    import torch
    from transformers import AutoConfig, AutoModel

    bert = AutoConfig.from_pretrained(pico_encoder(folder))
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    wanted = {name: getattr(bert, name) for name in (*sizes, "max_position_embeddings", "pad_token_id")}
    config = AutoConfig.for_model(architecture, **wanted, **OWN_NAMES.get(architecture, {}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder)
    return folder


OWN_NAMES = {
    "electra": {"embedding_size": 32},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
}
"""Sizes that an architecture calls otherwise."""
