"""A chain: encoder, fine-tuning stages in order, targets. One complete recipe, as frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from pydantic import TypeAdapter

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
    after: str | None = None
    """The name of an earlier target whose fine-tuned model, encoder and head, this one starts from; None: from the
    encoder as the stages leave it, with a new head."""

    @property
    def name(self) -> str:
        """Name its scores: by the task's name, unless the space gives it one of its own."""
        return self.stage.name if self.stage else self.task

    @property
    def words(self) -> str:
        """Its name, and which other it goes on from."""
        return f"{self.name} after {self.after}" if self.after else self.name

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
        """Identify its files, however a chain uses them."""
        return f"{self.name}@{self.revision}" if self.revision else self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """One complete recipe."""

    suite: str
    encoder: Encoder
    stages: tuple[Stage, ...]
    targets: tuple[Target, ...]

    def target(self, name: str) -> Target:
        return next(target for target in self.targets if target.name == name)

    def line(self, target: str) -> tuple[Target, ...]:
        """The target of that name and, before it, those it goes on from, in the order they are trained in."""
        found = self.target(target)
        return (*(self.line(found.after) if found.after else ()), found)

    @property
    def followed(self) -> Mapping[str, Target]:
        """Name of each target that another goes on from -> the last that does."""
        return {one.name: target for target in self.targets for one in self.line(target.name)[:-1]}

    @property
    def trained(self) -> frozenset[Source]:
        """Every source that some stage of the chain trains on, targets' own fine-tuning included."""
        stages = [*self.stages, *(target.stage for target in self.targets if target.stage)]
        return frozenset(source for stage in stages for source in stage.mixture.sources)

    def unseen(self, target: str, language: str, same: Mapping[str, str] = MappingProxyType({})) -> bool:
        """Tell whether a score of the target of that name in `language` is zero-shot.

        So it is if neither a stage nor the target nor one it goes on from trained its task in that language; of targets
        that share a head by going on from each other, each one's task counts as the other's.

        same: task -> the task it counts as, where the suite calls two of them the same
        """
        line = self.line(target)
        stages = [*self.stages, *(one.stage for one in line if one.stage)]
        sources = [source for stage in stages for source in stage.mixture.sources if source.language == language]
        trained = {same.get(source.task, source.task) for source in sources}
        return trained.isdisjoint(same.get(one.task, one.task) for one in line)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, the inverse of `from_dict`; `after` is there only where a target has it."""
        plain = asdict(self)
        for target in plain["targets"]:
            if target["after"] is None:
                del target["after"]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Chain:
        """raises: ValueError, if something is missing or of another type"""
        return _CHAIN.validate_python(plain)


_CHAIN = TypeAdapter(Chain)
