"""What jobs give and take in a replay: recorded results of a space that was trained whole, or made-up chains."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from make import TABLE, setting_text, stage_text

from tunexfer.core.chain import Chain, Target
from tunexfer.core.graph import Contents, Job, jobs_of
from tunexfer.core.scores import Score
from tunexfer.core.trial import Point
from tunexfer.plan.domains import Ask
from tunexfer.plan.plan import Plan
from tunexfer.search.chain_pool import Pool, list_all

TASKS, LANGUAGES, RATES = 8, 3, 2
TARGETS, SETTINGS = 5, 4
STAGE_S, TARGET_S, SCORE_S = 60.0, 22.0, 3.0


class World:
    """What jobs take and what they give: a subclass says it of each job."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.space = plan, _CachedSpace(plan)
        self.objective = plan.objective
        self.jobs, self.truth = cache(self._jobs), cache(self._truth)

    def seconds(self, chain: Chain, job: Job) -> float:
        raise NotImplementedError

    def scores(self, chain: Chain, job: Job) -> list[Score]:
        """Return what the search sees of an evaluation."""
        raise NotImplementedError

    def part(self, chain: Chain, target: Target) -> float:
        """Return one target's part of the true score."""
        raise NotImplementedError

    def _jobs(self, chain: Chain, seed: int) -> tuple[Job, ...]:
        """List a chain's jobs, with the keys that they have for the sampler's `Costs`."""
        contents = Contents(encoder=chain.encoder.identity, precision="fp32")
        return jobs_of(chain, seed=seed, contents=contents)

    def _truth(self, chain: Chain) -> float:
        """Return the chain's true score, a percentage."""
        return statistics.fmean(self.part(chain, target) for target in chain.targets)

    @cached_property
    def pool(self) -> Pool:
        pool = list_all(self.space)
        assert pool, "the space is small enough to be listed"
        return pool

    @cached_property
    def best(self) -> float:
        """Find the best true score of any chain: a target's part depends on the stages and its own settings alone."""
        return max(
            statistics.fmean(
                max(self.part(option.chain, own.chain.target(name)) for own in options)
                for (name,), options in self.pool.settings.items()
            )
            for option in self.pool.stages
        )

    @cached_property
    def job_count(self) -> int:
        """Count the jobs of all chains, each once."""
        keys: set[str] = set()
        counts = [len(options) for options in self.pool.settings.values()]
        for stages in range(len(self.pool.stages)):
            for place in range(max(counts)):
                chain = self.space.chain(self.pool.point([stages, *(place % count for count in counts)]))
                keys |= {job.key for job in self.jobs(chain, self.plan.seed)}
        return len(keys)

    def points(self, start: int = 0) -> Iterator[Point]:
        """Yield every point in the order of the file, from one on and round to the one before it."""
        sides = [self.pool.stages, *self.pool.settings.values()]
        for place in range(start, start + self.pool.count):
            point: Point = {}
            for side in reversed(sides):
                place, at = divmod(place, len(side))
                point = side[at].point | point
            yield point


class Recorded(World):
    """The results in table.parquet.

    A score is the mean over the seeds with which the table has it: three for a third of the stage options, one for the
    others. Search and truth both have that mean. Were the truth the mean and a search saw one seed, a chain that was
    lucky with it would count as a mistake where the table has three seeds, and as the best where it has one. All scores
    are of validation rows.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        data = pd.read_parquet(TABLE)
        training, scoring = data[data.kind == "train"], data[data.kind == "evaluate"]
        places = ["stage", "target", "setting"]
        self._train_s = training.groupby(places).seconds.mean().to_dict()
        self._score_s = scoring.groupby(places).seconds.mean().to_dict()
        main = scoring[scoring.main.astype(bool) & (scoring.split == "validation")]
        self._scores: dict[Any, list[Score]] = {}
        for (*place, language), value in main.groupby([*places, "language"], sort=False).value.mean().items():
            self._scores.setdefault(tuple(place), []).append(_score(place[1], language, value))

    def seconds(self, chain: Chain, job: Job) -> float:
        if job.target:
            return float(self._score_s[_place(chain, job.target)])
        if job.stage in chain.stages:
            return float(self._train_s[stage_text(chain), "-", "-"])
        return float(self._train_s[_place(chain, chain.target(job.name))])

    def scores(self, chain: Chain, job: Job) -> list[Score]:
        assert job.target
        return self._scores[_place(chain, job.target)]

    def part(self, chain: Chain, target: Target) -> float:
        return self.objective.value(self._scores[_place(chain, target)], chain)


class MadeUp(World):
    """Additive effects with interactions, drawn from a seed; what a search sees has noise, the true score has none."""

    def __init__(self, plan: Plan, seed: int) -> None:
        super().__init__(plan)
        self._seed = seed
        draw = np.random.default_rng(seed)
        self._base = draw.uniform(45, 70, TARGETS)
        self._task, self._language = draw.normal(0, 1.5, TASKS), draw.normal(0, 0.7, LANGUAGES)
        self._rate, self._pair = draw.normal(0, 0.7, RATES), draw.normal(0, 0.7, (TASKS, LANGUAGES, RATES))
        self._sensitivity = draw.uniform(0.5, 1.5, TARGETS)
        self._taste = draw.normal(0, 1.0, (TARGETS, TASKS))
        self._setting = draw.normal(0, 1.5, (TARGETS, SETTINGS))
        self._both = draw.normal(0, 0.4, (TARGETS, SETTINGS, TASKS))

    def seconds(self, chain: Chain, job: Job) -> float:
        if job.kind == "evaluate":
            return SCORE_S
        return STAGE_S if job.stage in chain.stages else TARGET_S

    def scores(self, chain: Chain, job: Job) -> list[Score]:
        assert job.target
        noise = random.Random(f"{self._seed} {job.key}").gauss(0, 0.4)
        return [_score(job.name, "en", self.part(chain, job.target) + noise)]

    def part(self, chain: Chain, target: Target) -> float:
        assert target.stage
        place = int(target.name.removeprefix("target"))
        setting = round(np.log2(target.stage.learning_rate / 1e-5))
        value = self._base[place] + self._setting[place, setting]
        for stage in chain.stages:
            source = stage.mixture.sources[0]
            task, language = int(source.task.removeprefix("task")), int(source.language[1:], 36) - 10
            rate = int(stage.learning_rate > 2e-5)
            gain = self._task[task] + self._language[language] + self._rate[rate] + self._pair[task, language, rate]
            value += gain * self._sensitivity[place] + self._taste[place, task] + self._both[place, setting, task]
        return float(value)


class _CachedSpace:
    """A search space that builds each chain once."""

    def __init__(self, plan: Plan) -> None:
        self._space, self._chains = plan.space, dict[tuple[Any, ...], Chain]()

    def sample(self, ask: Ask) -> tuple[Point, Chain]:
        point: Point = {}

        def recorded(name: str, domain: Any) -> Any:
            point[name] = ask(name, domain)
            return point[name]

        self._space._draw(recorded, stages=True)  # these spaces draw nothing later than here
        return point, self.chain(point)

    def chain(self, point: Point) -> Chain:
        key = tuple(point.items())
        if key not in self._chains:
            self._chains[key] = self._space.chain(point)
        return self._chains[key]

    def grid(self) -> Iterator[Point]:
        return self._space.grid()


def made_up_plan(folder: Path) -> Plan:
    """Write and load a space of 8 tasks x 3 languages x 2 rates and no stage, and 5 targets x 4 rates."""
    languages = [f"l{letter}" for letter in "abc"[:LANGUAGES]]
    tasks = [f"task{number}" for number in range(TASKS)]
    targets = [f"target{number}" for number in range(TARGETS)]
    task = {"kind": "classification", "hub": {"path": "made/up"}, "columns": {"text": "t", "label": "l"}}
    rows = {language: [1000, 100, 100] for language in [*languages, "en"]}
    blocks = {name: task | {"labels": ["a", "b"], "rows": rows} for name in [*tasks, *targets]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.yaml").write_text(yaml.safe_dump({"name": "made_up", "tasks": blocks}))
    stage = {"name": "stage", "tasks": {"choice": [[], *([name] for name in tasks)]}}
    stage |= {"languages": {"choice": [[language] for language in languages]}}
    stage |= {"learning_rate": {"choice": [1.0e-5, 3.0e-5]}, "steps": 300}
    rates = {"choice": [1e-5 * 2**power for power in range(SETTINGS)]}
    own = [{"task": name, "train_language": "en", "learning_rate": rates, "steps": 100} for name in targets]
    space = {"name": "made_up", "suite": "suite.yaml", "encoder": "made up", "stages": [stage], "targets": own}
    (folder / "space.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    return Plan.load(folder / "space.yaml", cache=folder / "cache")


def _place(chain: Chain, target: Target) -> tuple[str, str, str]:
    return stage_text(chain), target.name, setting_text(target)


def _score(target: str, language: str, value: float) -> Score:
    return Score(
        target=target, language=language, split="validation", metric="m", value=value, main=True,
        unseen=language != "en",
    )  # fmt: skip
