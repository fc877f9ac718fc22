"""A chain: encoder, fine-tuning stages in order, targets. One complete recipe, as frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Pooling = Literal["first", "mean"]


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Source:
    """One task in one language, as training data."""

    task: str
    language: str

    def __str__(self) -> str:
        return f"{self.task}/{self.language}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """Several sources and how often each is drawn."""

    sources: tuple[Source, ...]
    shares: tuple[float, ...]
    """One per source, each above 0; they sum to 1."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, each once, in the order of their first source."""
        return tuple(dict.fromkeys(source.task for source in self.sources))

    def __str__(self) -> str:
        return " + ".join(f"{share:.0%} {source}" for source, share in zip(self.sources, self.shares, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One fine-tuning run of the encoder on one mixture."""

    name: str
    mixture: Mixture
    learning_rate: float
    """Peak rate of AdamW, reached when warm-up ends."""
    steps: int
    """Optimizer steps; each sees `batch_size` rows of one task."""
    batch_size: int = 32
    """Rows per optimizer step."""
    training: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Other fields of transformers' `TrainingArguments`, as the space's `training:` block gives them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A task the chain ends with: fine-tuned in its train language (or not at all), then scored in every language."""

    task: str
    stage: Stage | None = None
    """The fine-tuning on the train language; None where there is nothing to train (retrieval)."""
    layer: int | None = None
    """Retrieval only: the hidden layer pooled into the sentence vector; 0 is the embeddings, None the last layer."""

    @property
    def train_language(self) -> str | None:
        return self.stage.mixture.sources[0].language if self.stage else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoder:
    """The pretrained encoder every chain starts from."""

    name: str
    """`starter-e5-small`, `starter-e5-small-4l`, a local folder, or a Hugging Face hub id."""
    revision: str | None = None
    pooling: Pooling = "first"
    """What sentence heads read: the first token's vector, or the mean over the sentence's tokens."""
    freeze_embeddings: bool = False
    """Keep the word embeddings as they are: faster, and stages take less disk."""

    @property
    def identity(self) -> str:
        """Which files it is, however a chain uses them."""
        return f"{self.name}@{self.revision}" if self.revision else self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """One complete recipe."""

    suite: str
    encoder: Encoder
    stages: tuple[Stage, ...]
    targets: tuple[Target, ...]

    @property
    def trained(self) -> frozenset[Source]:
        """Every source that some stage of the chain trains on, targets' own fine-tuning included."""
        stages = [*self.stages, *(target.stage for target in self.targets if target.stage)]
        return frozenset(source for stage in stages for source in stage.mixture.sources)

    def unseen(self, task: str, language: str) -> bool:
        """Whether no stage and no target of the chain trained `task` in `language`: only then is a score zero-shot."""
        return Source(task=task, language=language) not in self.trained

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, the inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Chain:
        return cls(
            suite=plain["suite"],
            encoder=Encoder(**plain["encoder"]),
            stages=tuple(_stage(stage) for stage in plain["stages"]),
            targets=tuple(
                Target(**{**target, "stage": _stage(target["stage"]) if target["stage"] else None})
                for target in plain["targets"]
            ),
        )


def _stage(plain: Mapping[str, Any]) -> Stage:
    mixture = Mixture(
        sources=tuple(Source(**source) for source in plain["mixture"]["sources"]),
        shares=tuple(plain["mixture"]["shares"]),
    )
    return Stage(**{**plain, "mixture": mixture})
