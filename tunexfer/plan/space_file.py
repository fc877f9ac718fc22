"""The space file: its blocks, the folders it is looked for in, and how it is read and overridden."""

from __future__ import annotations

import itertools
import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, Field, field_validator, model_validator

from tunexfer.core.objective import Objective
from tunexfer.core.yaml_text import read_mapping
from tunexfer.errors import SpaceError
from tunexfer.plan.detect import seeds_to_detect
from tunexfer.plan.recipe import Strict
from tunexfer.tasks.suite import nearest

LARGEST_SEED = 2**32 - 1
"""The largest that numpy's generators take."""
LONGEST_NAME = 100
"""Letters of a study's name."""
MLFLOW_FILES = ("mlflow.db", "mlartifacts")
"""Names in the folder of studies that `mlflow.client` gives to other things."""
_STUDY_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")

Algorithm = Literal["chain", "tpe", "gp", "qmc", "random", "grid"]
WITH_MODEL: tuple[str, ...] = ("chain",)
"""Algorithms that can estimate the chance of a chain to be the best."""
StopRule = Literal["off", "chance", "top_k"]


class Stop(Strict):
    """When a trial ends before all of its jobs have run; one of its rules is chosen by what is given."""

    rule: StopRule = "off"
    chance: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """`chance`: a trial ends when its chance to beat the best one is below this."""
    top: Annotated[int, Field(ge=1)] = 5
    """`top_k`: trials that go on."""
    after: Annotated[int, Field(ge=1)] = 1
    """`top_k`: targets that are scored before a trial may end."""

    @classmethod
    def read(cls, value: Any) -> Any:
        """Make a block of a rule's name, or of a rule's own keys.

        raises: ValueError, if no rule is meant by them
        """
        if value is False or value in get_args(StopRule):
            return {"rule": value or "off"}  # YAML reads the word `off` as false
        if isinstance(value, dict) and value.keys() == {"chance"}:
            return {"rule": "chance", **value}
        if isinstance(value, dict) and "top" in value and value.keys() <= {"top", "after"}:
            return {"rule": "top_k", **value}
        if (isinstance(value, dict) and "rule" in value) or isinstance(value, cls):
            return value
        raise ValueError("expected off, chance, top_k, {chance: 0.05}, or {top: 5, after: 1}")


class _Budget(Strict):
    """The limits of what a search may use."""

    device_hours: Annotated[float, Field(gt=0)]
    """Hours that devices may spend on jobs, those of confirmation included, summed over devices."""


class _Search(Strict):
    algorithm: Algorithm = "chain"
    trials: Annotated[int, Field(ge=1)] | Literal["auto"] = 16
    """Number of trials to finish, including the baseline; `auto` ends when another one no longer pays."""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
    minutes: Annotated[float, Field(gt=0)] | None = None
    """No trial starts after this many minutes."""
    budget: _Budget | None = None
    from_: Annotated[list[str], Field(alias="from")] = []
    """Folders of earlier studies that teach the sampler."""
    stop: Stop = Stop()
    """The rule by which a trial ends early; `off` unless given."""
    concurrent: Annotated[int, Field(ge=1)] | None = None
    """Maximum number of jobs at once, one on each device; by default as many as fit."""

    @model_validator(mode="after")
    def _has_a_model(self) -> _Search:
        for key, given in (("trials: auto", self.trials == "auto"), ("from", self.from_)):
            if given and self.algorithm != "chain":
                raise ValueError(f"`{key}` needs the model of `algorithm: chain`; `{self.algorithm}` has none")
        return self

    @field_validator("stop", mode="before")
    @classmethod
    def _a_rule(cls, value: Any) -> Any:
        return Stop.read(value)


class _Resources(Strict):
    """Devices for each job, and the size of the stage store."""

    cpus: Annotated[int, Field(ge=1)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0
    """A fraction lets several jobs share a GPU."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    store_gb: Annotated[float, Field(gt=0)] = 20

    @field_validator("gpus")
    @classmethod
    def _one_at_most(cls, value: float) -> float:
        if value > 1:
            raise ValueError("a job runs on one GPU at most; with more GPUs more jobs run at once")
        return value


class Confirm(Strict):
    """A race of the best chains and the baseline over fresh seeds, after the search."""

    top: Annotated[int, Field(ge=1)]
    seeds: Annotated[int, Field(ge=1)] | Literal["auto"]
    """`auto`: as many as it takes to call a gain of `detect` points clear; see `docs/statistics.md`."""
    detect: Annotated[float, Field(gt=0)] = 2.0
    """Points; read with `seeds: auto`."""

    @property
    def count(self) -> int:
        """Fresh seeds at most."""
        return seeds_to_detect(self.detect) if self.seeds == "auto" else self.seeds


class _Noise(Strict):
    """The measurement of the noise of training, in every study: the baseline is run with several seeds."""

    seeds: Annotated[int, Field(ge=1)] = 3
    """Seeds of the baseline in all, those of its confirmation included; 1 measures nothing."""


def name_problem(name: str) -> str | None:
    """Say why a study can't have this name, which its folder and its experiment in MLflow have too; None if it can."""
    if not _STUDY_NAME.fullmatch(name):
        return (
            f"a study's name is up to {LONGEST_NAME} letters of English, digits, '.', '_' and '-', and begins with a "
            f"letter or a digit, but got {name[:LONGEST_NAME]!r}"
        )
    return f"{name!r} is where MLflow keeps its own files, beside the studies" if name in MLFLOW_FILES else None


def _study_name(name: str) -> str:
    if problem := name_problem(name):
        raise ValueError(problem)
    return name


class SpaceFile(Strict):
    """All blocks of a space file. Those with domains are only checked for their shape; `Recipe` checks each point."""

    name: Annotated[str, AfterValidator(_study_name)]
    suite: str
    encoder: Any
    stages: list[dict[str, Any]] = []
    targets: Annotated[list[dict[str, Any]], Field(min_length=1)]
    training: dict[str, Any] = {}
    objective: Objective = Objective()
    search: _Search = _Search()
    resources: _Resources = _Resources()
    baseline: dict[str, Any] = {}
    """Coordinates of the targets and their values; `matched: compute` besides."""
    noise: _Noise = _Noise()
    confirm: Confirm | None = None

    @field_validator("objective", mode="before")
    @classmethod
    def _a_block(cls, value: Any) -> Any:
        if isinstance(value, list | str):
            raise ValueError("write the goals as `objective: {maximize: [mean, worst_language]}`")
        return value

    @field_validator("baseline")
    @classmethod
    def _matched_by_compute(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value.get("matched", "compute") != "compute":
            raise ValueError(f"`matched` is `compute` or left out, but got {value['matched']!r}")
        return value

    @model_validator(mode="after")
    def _fresh_seeds_in_range(self) -> SpaceFile:
        fresh = max(self.noise.seeds - 1, self.confirm.count if self.confirm else 0)
        if self.search.seed + fresh > LARGEST_SEED:
            raise ValueError(
                f"search.seed: {fresh} fresh seeds come after it, so it is at most {LARGEST_SEED - fresh}, "
                f"but got {self.search.seed}"
            )
        return self

    @model_validator(mode="after")
    def _goals_fit_the_search(self) -> SpaceFile:
        if self.search.stop.rule != "off" and self.objective.several:
            raise ValueError(
                "search.stop: a trial that is behind in one number may be ahead in another. Maximise `mean` or "
                "`worst_language` alone, or set `stop: off`"
            )
        limited = self.objective.no_target_below_baseline is not None
        if self.search.algorithm == "chain" and len(self.objective.goals) > 1 and limited:
            raise ValueError(
                "search.algorithm: `chain` models a weighted sum of several goals, which can't tell whether a target "
                "falls below the baseline. Leave out `no_target_below_baseline`, or set `algorithm: tpe`"
            )
        if self.search.stop.rule == "chance" and self.search.algorithm not in WITH_MODEL:
            raise ValueError(
                f"search.stop: `chance` asks the model of `algorithm: chain`, and {self.search.algorithm} has none. "
                "Take that algorithm, or `stop: {top: 5, after: 1}`"
            )
        return self


def find_space(path: Path | str) -> Path:
    """Find a space file by its path or, for a shipped space, by its name.

    raises: SpaceError, listing the shipped spaces
    """
    given = Path(path)
    if given.is_file():
        return given
    shipped = shipped_spaces()
    if given.stem in shipped and given.suffix in ("", ".yaml", ".yml"):
        return shipped[given.stem]
    raise SpaceError(
        f"{given}: there is no such file, and no shipped space of that name ({', '.join(sorted(shipped))})."
        f"{nearest(given.stem, shipped)}"
    )


def shipped_spaces() -> dict[str, Path]:
    """List the spaces that come with tunexfer: inside the package when installed, beside it in a checkout."""
    package = Path(str(resources.files("tunexfer")))
    folder = package / "search_spaces" if (package / "search_spaces").is_dir() else package.parent / "search_spaces"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    raises: SpaceError, if the file can't be read, is not YAML or no mapping, or repeats a key
    """
    try:
        return read_mapping(path, "a space file is a mapping with name, suite, encoder, targets ...")
    except ValueError as error:
        raise SpaceError(str(error)) from error


def override(raw: dict[str, Any], path: str, text: str) -> None:
    """Set one value of a space, as `--set path=value` does.

    text:   the value as YAML
    raises: SpaceError, if the space has no such path
    """
    parts = [int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", path)]
    node: Any = raw
    try:
        value = yaml.safe_load(text)
        for part, following in itertools.pairwise(parts):
            if isinstance(node, dict) and isinstance(part, str) and part not in node and isinstance(following, str):
                node[part] = {}
            if isinstance(node.get(part) if isinstance(node, dict) else node[part], str) and part == "encoder":
                node[part] = {"name": node[part]}
            node = node[part]
        if isinstance(node, list):
            node[int(parts[-1])] = value
        else:
            node[parts[-1]] = value
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise SpaceError(f"--set {path}={text}: the space has nothing at {path!r} to set") from error
