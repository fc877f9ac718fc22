"""A plan: space, objective and budget, resolved against the suite and costed before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

import tunexfer
from tunexfer.core.chain import Chain, Encoder, Source
from tunexfer.core.controls import equal_compute, without_stages
from tunexfer.core.graph import Contents, Key, jobs_of
from tunexfer.core.languages import with_canonical_codes
from tunexfer.core.objective import Objective
from tunexfer.core.scores import Split
from tunexfer.core.trial import Point
from tunexfer.data.checkpoint import check_files, check_lengths, find_encoder, has_language_head
from tunexfer.data.rows import INSTALLED, OWN_DATA, Rows
from tunexfer.errors import DataError, SpaceError
from tunexfer.plan.domains import Range
from tunexfer.plan.draws import at_random
from tunexfer.plan.recipe import explain
from tunexfer.plan.space import SearchSpace, parse_tree
from tunexfer.plan.space_file import Confirm, SpaceFile, find_space, override, read_yaml
from tunexfer.tasks.installed import encoder_provider
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import SPLITS, Suite, load_suite, named_suites

MATCHED = "matched"
"""The key of the `baseline` block that is no coordinate: it adds trials and changes no score."""
SEARCHED = ("encoder", "stages", "targets", "training")
MAX_GRID = 2000
"""Points above which the chains of a space are not enumerated."""
USUAL_TRIALS = 16
"""Trials that costs are estimated for where the search decides itself when to end."""
DRAWS = 20
"""Random searches over which the expected cost is averaged."""

Evaluated = tuple[str, str, Split]
"""Task, language, split."""


class _Cost(NamedTuple):
    """The training that some chains take."""

    chains: int
    stages_unshared: int
    """Fine-tuning runs, including those of targets, if each chain trained all of its own."""
    stages: int
    """Distinct fine-tuning runs, as chains that share a store train them."""
    steps_unshared: int
    steps: int


@dataclass(frozen=True)
class Plan:
    """Space, objective and budget of a search, resolved against the suite."""

    file: SpaceFile
    where: Path
    space: SearchSpace
    suite: Suite
    suite_folder: Path
    rows: Rows

    @classmethod
    def load(
        cls, path: Path | str, overrides: Mapping[str, str] | None = None, *, cache: Path, seed: int | None = None
    ) -> Plan:
        """Read a space file (or the name of a shipped one), check every option in it, and resolve it.

        overrides: `stages[0].steps` -> YAML text, as `--set` gives them
        raises: SpaceError with every problem at once
        """
        where = find_space(path)
        raw = read_yaml(where)
        for target, text in (overrides or {}).items():
            override(raw, target, text)
        if seed is not None:
            override(raw, "search.seed", str(seed))
        raw = with_canonical_codes(raw)
        try:
            file = SpaceFile.model_validate(raw)
        except ValidationError as error:
            raise SpaceError([f"{where.name}, {line}" for line in explain(error)]) from error
        try:
            suite, folder = load_suite(file.suite, beside=where.parent)
        except DataError as error:
            raise SpaceError(f"{where.name}, suite: {error}") from error
        rows = Rows(suite, folder, cache)
        tree = parse_tree({key: raw[key] for key in SEARCHED if raw.get(key) is not None}, where.name)
        values = {name: value for name, value in file.baseline.items() if name != MATCHED}
        space = SearchSpace(
            tree, suite, lambda source: rows.count(source.task, source.language, "train"), values, where.name
        )
        space.check()
        plan = cls(file, where, space, suite, folder, rows)
        plan.warnings  # noqa: B018  raises where no target has validation rows to select by
        plan._check_local_encoders()
        return plan

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def objective(self) -> Objective:
        return self.file.objective

    @property
    def confirm(self) -> Confirm | None:
        return self.file.confirm

    @property
    def noise_seeds(self) -> int:
        """Seeds of the baseline in all, those of its confirmation included."""
        return max(self.file.noise.seeds, 1 + (self.confirm.count if self.confirm else 0))

    @property
    def matched(self) -> bool:
        """Tell whether the chains shown as best are also compared with baselines of equal compute."""
        return MATCHED in self.file.baseline

    def controls(self, chain: Chain) -> list[Chain]:
        """List the chains that a chain is compared with, each once: its targets alone, and those of equal compute.

        Left out are targets without validation rows that the objective reads: alone, they make no complete trial.
        """
        if not chain.stages:
            return []
        matched = equal_compute(chain).items() if self.matched else ()
        read = {task for task, _, split in self.evaluated if split == "validation"}
        kept = [control for (_, target), control in matched if chain.target(target).task in read]
        return list(dict.fromkeys([without_stages(chain), *kept]))

    @property
    def seed(self) -> int:
        return self.file.search.seed

    @property
    def trials(self) -> int:
        """Number of trials that costs are estimated for; a search with `trials: auto` runs as many as pay."""
        trials = self.file.search.trials
        return USUAL_TRIALS if trials == "auto" else trials

    @property
    def algorithm(self) -> str:
        return self.file.search.algorithm

    @cached_property
    def precision(self) -> str:
        """`bf16` where the device is faster with it (GPUs since Ampere, CPUs with bf16 instructions), else `fp32`."""
        if self.file.resources.precision != "auto":
            return self.file.resources.precision
        return "bf16" if self.file.resources.gpus or _cpu_has_bf16() else "fp32"

    @cached_property
    def baseline(self) -> tuple[Point, Chain]:
        return self.space.baseline()

    @cached_property
    def encoders(self) -> tuple[Encoder, ...]:
        """Every encoder a point can start from."""
        return tuple(dict.fromkeys(chain.encoder for chain in self.variants))

    @cached_property
    def variants(self) -> tuple[Chain, ...]:
        """Chains that together try every option of every choice and both ends of every range."""
        return tuple(chain for _, chain in self.space.variants if isinstance(chain, Chain))

    @cached_property
    def possible_sources(self) -> frozenset[Source]:
        """Every source that some point can train on."""
        return frozenset(
            {source for source in self.space.named_sources if self.space.sizes(source)}
            | {source for chain in self.variants for source in chain.trained}
        )

    @cached_property
    def evaluated(self) -> frozenset[Evaluated]:
        """The rows that every trial is scored on: test in every language, validation where the objective reads it."""
        train = {(target.task, target.train_language) for chain in self.variants for target in chain.targets}
        return frozenset(
            (block["task"], language, split)
            for block in self.space.tree["targets"]
            for split in SPLITS[1:]
            for language in self.rows.languages(block["task"], split)
            if block.get("languages", "all") == "all" or language in block["languages"]
            if split == "test" or any(t == block["task"] and self.objective.reads(own, language) for t, own in train)
        )

    def layers(self, encoder: Encoder) -> frozenset[tuple[str, int]]:
        """Pairs of a task and the hidden layer of this encoder that its sentence vectors are taken from."""
        targets = (target for chain in self.variants if chain.encoder.name == encoder.name for target in chain.targets)
        return frozenset((target.task, target.layer) for target in targets if target.layer is not None)

    def identity(self) -> dict[str, Any]:
        """The settings on which scores depend: two plans with the same identity may share a study folder."""
        searched = self.file.model_dump(include={*SEARCHED, "suite", "objective"})
        own = {"baseline": dict(self.space.baseline_values), "seed": self.seed, "precision": self.precision}
        return {**searched, **own}

    def own_suite(self) -> dict[str, Any] | None:
        """Return the suite with an absolute root if it is a file of the user's, or None for a suite with a name.

        The study can then be read without the user's file.
        """
        if self.file.suite in named_suites():
            return None
        root = self.suite.root
        if root != OWN_DATA and not root.startswith(INSTALLED):
            root = str((self.suite_folder / root).resolve())
        return {**self.suite.model_dump(mode="json", exclude_defaults=True), "root": root}

    def as_dict(self) -> dict[str, Any]:
        """The resolved plan, as `plan.yaml` keeps it."""
        return {
            "tunexfer": tunexfer.__version__,
            "name": self.name,
            "identity": self.identity(),
            "own_suite": self.own_suite(),
            "search": self.file.search.model_dump(by_alias=True),
            "resources": self.file.resources.model_dump(),
            "noise": {"seeds": self.noise_seeds},
            "matched": self.matched,
            "confirm": {"top": self.confirm.top, "seeds": self.confirm.count} if self.confirm else None,
            "coordinates": {name: str(domain) for name, domain in self.space.coordinates.items()},
            "baseline": {"point": self.baseline[0], "chain": self.baseline[1].as_dict()},
            "evaluated": sorted(map(list, self.evaluated)),
            "without_rows": [str(source) for source in self.without_rows],
            "warnings": list(self.warnings),
        }

    def cost(self, chains: Iterable[Chain]) -> _Cost:
        """Count the training of these chains, with and without sharing the stages they have in common."""
        distinct: dict[str, int] = {}
        count = stages_unshared = steps_unshared = 0
        for chain in chains:
            contents = Contents(encoder=chain.encoder.identity, precision=self.precision)
            count += 1
            for job in jobs_of(chain, seed=self.seed, contents=contents):
                if job.kind == "train":
                    stages_unshared += 1
                    steps_unshared += job.steps
                    distinct[job.key] = job.steps
        return _Cost(
            chains=count,
            stages_unshared=stages_unshared,
            stages=len(distinct),
            steps_unshared=steps_unshared,
            steps=sum(distinct.values()),
        )

    def every_chain(self) -> list[Chain] | None:
        """The chain of every point; None where the space is continuous or larger than `MAX_GRID`."""
        try:
            points = list(islice(self.space.grid(), MAX_GRID + 1))
        except SpaceError:
            return None
        return [self.space.chain(point) for point in points] if len(points) <= MAX_GRID else None

    def full_cost(self) -> _Cost | None:
        """Compute the cost of the baseline and every chain of the space, or return None where there are too many."""
        chains = self.every_chain()
        return self.cost(dict.fromkeys([self.baseline[1], *chains])) if chains else None

    @cached_property
    def expected_cost(self) -> _Cost:
        """Compute the mean cost of a random search of as many trials as planned, over `DRAWS` searches."""
        return _mean_cost([self.cost(self.random_chains(self.trials, seed)) for seed in range(DRAWS)])

    @cached_property
    def noise_cost(self) -> _Cost:
        """Compute the cost of the baseline's runs with seeds that its confirmation doesn't have."""
        times = self.noise_seeds - 1 - (self.confirm.count if self.confirm else 0)
        return _mean_cost([self.cost([self.baseline[1]])], times=times)

    @cached_property
    def controls_cost(self) -> _Cost:
        """Compute the mean cost of what a random chain with stages is compared with."""
        drawn = [self.random_chains(2, seed)[-1] for seed in range(DRAWS)]
        return _mean_cost([self.cost(self.controls(chain)) for chain in drawn if chain.stages])

    @cached_property
    def confirmation_cost(self) -> _Cost:
        """Compute the mean cost of confirming random chains, with what they are compared with, none dropped."""
        confirm = self.confirm
        if confirm is None:
            return _mean_cost([])
        top = confirm.top * (len(self.baseline[1].targets) if self.objective.per_target else 1)
        drawn = [self.random_chains(top + 1, seed) for seed in range(DRAWS)]
        costs = [
            self.cost(dict.fromkeys([*chains, *(control for chain in chains for control in self.controls(chain))]))
            for chains in drawn
        ]
        return _mean_cost(costs, times=confirm.count)

    def random_chains(self, trials: int, seed: int) -> list[Chain]:
        """The baseline and distinct random chains, `trials` in all, or fewer where the space has no more."""
        ask, chains = at_random(seed), [self.baseline[1]]
        for _ in range(20 * trials):
            if len(chains) == trials:
                break
            chain = self.space.sample(ask)[1]
            if chain not in chains:
                chains.append(chain)
        return chains

    @cached_property
    def without_rows(self) -> tuple[Source, ...]:
        """Pairs of task and language that the space names and the suite has no training rows for."""
        return tuple(sorted(source for source in self.space.named_sources if not self.space.sizes(source)))

    @cached_property
    def read_keys(self) -> set[Key]:
        """The rows that trials may train on or are scored on: task, language, split."""
        return {*self.evaluated, *((source.task, source.language, "train") for source in self.possible_sources)}

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Lines that a user should read before starting the search.

        raises: SpaceError, if no target has validation rows that the objective may read
        """
        objective, targets = self.objective, self.baseline[1].targets
        selecting = {task for task, _, split in self.evaluated if split == "validation"}
        lines = [
            f"{target.name} has no validation rows that objective.languages: {objective.languages} may read, so it is "
            "evaluated but not part of the objective"
            for target in targets
            if target.task not in selecting
        ]
        if len(lines) == len(targets):
            reasons = dict.fromkeys(self.rows.missing(target.task, "validation") for target in targets)
            problem = f"{self.where.name}, objective: no target has validation rows that it may read"
            raise SpaceError(". ".join([problem, *filter(None, reasons)]))
        lines += [
            f"targets[{index}].languages: {target['task']} has no rows to score in {language!r}"
            for index, target in enumerate(self.space.tree["targets"])
            for language in (() if isinstance(target.get("languages", "all"), str) else target["languages"])
            if not any((task, code) == (target["task"], language) for task, code, _ in self.evaluated)
        ]
        lines += [*self.rows.remarks(self.read_keys), *self.rows.weaknesses(self.read_keys)]
        lines += [
            f"{name} is continuous, so no two trials share that stage or a later one; use `choice` with few values"
            for name, domain in self.space.coordinates.items()
            if name.startswith("stages") and isinstance(domain, Range) and not domain.integer
        ]
        lines += self._fresh_language_heads()
        if isinstance(objective.languages, list | tuple) or objective.languages == "all":
            lines.append(
                "selection uses target-language validation data; for the zero-shot protocol set objective.languages: "
                "train"
            )
        return tuple(lines)

    def _check_local_encoders(self) -> None:
        """Check the files of encoders in local folders; the others are looked at when they have been fetched.

        raises: DataError, naming the file, or a task whose inputs are too long
        """
        names = {source.task for source in self.possible_sources} | {task for task, _, _ in self.evaluated}
        tasks = {name: self.suite.tasks[name] for name in sorted(names)}
        for encoder in self.encoders:
            folder = Path(encoder.name).expanduser()
            if not encoder_provider(encoder.name) and folder.is_dir():
                check_files(folder)
                check_lengths(folder, encoder, tasks)

    def _fresh_language_heads(self) -> Iterator[str]:
        """Warn of cached encoders without the head that a masked_lm task continues from."""
        tasks = {source.task for source in self.possible_sources}
        if not any(KINDS[self.suite.tasks[task].kind].masks for task in tasks):
            return
        for encoder in self.encoders:
            folder = find_encoder(encoder, self.rows.cache)
            if folder and not has_language_head(folder):
                yield (
                    f"{encoder.name} has no masked-language-model head, so a new one is trained, tied to the word "
                    "embeddings"
                )


def _mean_cost(costs: Sequence[_Cost], times: int = 1) -> _Cost:
    """Average costs, and multiply; 0 of none."""
    columns = zip(*(costs or [_Cost(0, 0, 0, 0, 0)]), strict=True)
    return _Cost(*(round(times * sum(counts) / max(1, len(costs))) for counts in columns))


def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
