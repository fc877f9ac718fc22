"""A pico encoder and suite, written once for all tests here, and plans made from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chain_runner import ChainRunner
from pico import pico_encoder, pico_suite

from tunexfer.core.chain import Chain, Encoder, Mixture, Source, Stage, Target
from tunexfer.data.prepare import Prepared, prepare
from tunexfer.store import StageStore
from tunexfer.tasks.suite import load_suite

ENGLISH = {"match": ("en",), "tags": ("en",), "choice": ("en",), "answer": ("en",)}


class Pico:
    """What a plan over the pico suite consists of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.encoder = Encoder(name=str(pico_encoder(folder / "encoder")))
        self.suite = pico_suite(folder / "suite")

    def prepared(
        self, train: dict[str, tuple[str, ...]], scored: dict[str, tuple[str, ...]], precision: str = "fp32"
    ) -> Prepared:
        """train and scored: task -> languages"""
        suite, folder = load_suite(str(self.suite))
        return prepare(
            suite=suite,
            folder=folder,
            encoder=self.encoder,
            sources=[Source(task=task, language=one) for task, languages in train.items() for one in languages],
            evaluated=[
                (task, one, split)
                for task, languages in scored.items()
                for one in languages
                for split in ("validation", "test")
            ],
            precision=precision,
            cache=self.folder / "cache",
        )

    def runner(self, store: Path | StageStore, prepared: Prepared | None = None) -> ChainRunner:
        store = StageStore(store) if isinstance(store, Path) else store
        prepared = prepared or self.prepared(ENGLISH, {"match": ("en", "ru"), "tags": ("en", "ru")})
        return ChainRunner(prepared, store)

    def chain(self, stages: tuple[Stage, ...], targets: tuple[Target, ...], **encoder: Any) -> Chain:
        base = Encoder(name=self.encoder.name, **encoder)
        return Chain(suite="pico", encoder=base, stages=stages, targets=targets)


def stage(*tasks: str, name: str = "", rate: float = 3e-3, steps: int = 8, language: str = "en", **more: Any) -> Stage:
    sources = tuple(Source(task=task, language=language) for task in tasks)
    mixture = Mixture(sources=sources, shares=tuple(1 / len(tasks) for _ in tasks))
    name = name or "+".join(tasks)
    return Stage(name=name, mixture=mixture, learning_rate=rate, steps=steps, batch_size=8, **more)


def target(task: str, **more: Any) -> Target:
    return Target(task=task, stage=stage(task, **more))


@pytest.fixture(scope="session")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Pico:
    return Pico(tmp_path_factory.mktemp("pico"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the stages that are really trained, in order."""
    import tunexfer.training.executor as module

    names: list[str] = []
    train: Callable[..., Any] = module.train_stage

    def recording(stage: Stage, **rest: Any) -> Any:
        names.append(stage.name)
        return train(stage, **rest)

    monkeypatch.setattr(module, "train_stage", recording)
    return names
