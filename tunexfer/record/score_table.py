"""Every score of many trials in one table, beside the baseline's: columns throughout, never an object a score."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import json as arrow_json

from tunexfer.core.chain import Encoder, Target
from tunexfer.core.files import TrialFolder
from tunexfer.core.scores import FORGETTING
from tunexfer.core.trial import Trial, TrialResult

WORDS = ("target", "language", "split", "metric")
"""The columns that say which of a trial's scores it is."""
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in WORDS] + [("value", pa.float64()), ("main", pa.bool_()), ("unseen", pa.bool_())]
)
_NAMES = _SCHEMA.names
_TOGETHER = 64
"""Files that are read as one: starting a reader costs more than reading a file."""

_NAME, _OLD_NAME = b'{"target": "', b'{"task": "'
"""How a line begins; version 0.1 calls the target `task`."""

Integers = NDArray[np.int64]


def read_scores(folders: Sequence[TrialFolder]) -> tuple[pd.DataFrame, dict[int, str]]:
    """The scores that trials left.

    returns: a row per score with `trial` and the fields of `core.scores.Score`, words as categories; and for each trial
        whose scores can't be read, why
    """
    tables: list[pa.Table] = []
    damaged: dict[int, str] = {}
    for start in range(0, len(folders), _TOGETHER):
        some = folders[start : start + _TOGETHER]
        try:
            tables.append(_read(some))
        except (OSError, ValueError):
            for folder in some:
                try:
                    tables.append(_read([folder]))
                except (OSError, ValueError) as error:
                    damaged[folder.number] = next(iter(str(error).splitlines()), type(error).__name__)
    schema = _SCHEMA.insert(0, pa.field("trial", pa.int64()))
    whole = pa.concat_tables([schema.empty_table(), *tables])
    for place, name in enumerate(schema.names):
        if name in WORDS:
            whole = whole.set_column(place, name, whole[name].combine_chunks().dictionary_encode())
    return whole.to_pandas(), damaged


def scores_of(complete: Iterable[TrialResult]) -> pd.DataFrame:
    """The same table of trials whose scores are in memory."""
    rows = [
        (ended.trial.number, *(getattr(score, name) for name in _NAMES)) for ended in complete for score in ended.scores
    ]
    table = pd.DataFrame(rows, columns=["trial", *_NAMES])
    kinds: dict[str, Any] = {name: "category" for name in WORDS} | {
        "trial": "int64",
        "value": "float64",
        "main": bool,
        "unseen": bool,
    }
    return table.astype(kinds)


def _read(folders: Sequence[TrialFolder]) -> pa.Table:
    """raises: OSError or ValueError, if one of the files isn't whole"""
    texts = [folder.scores.read_bytes().replace(_OLD_NAME, _NAME) for folder in folders]
    counts = [text.count(b"\n") for text in texts]
    options = arrow_json.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="error")
    read = arrow_json.ReadOptions(use_threads=False, block_size=max(1, sum(map(len, texts))))
    table = arrow_json.read_json(io.BytesIO(b"".join(texts)), read_options=read, parse_options=options)
    if not all(counts) or table.num_rows != sum(counts) or any(column.null_count for column in table.columns):
        raise ValueError("a score is missing or cut off")
    trials = np.repeat(np.array([folder.number for folder in folders], dtype=np.int64), counts)
    return table.select(_SCHEMA.names).add_column(0, "trial", pa.array(trials))


def with_deltas(scores: pd.DataFrame, trials: Iterable[Trial]) -> pd.DataFrame:
    """The same rows with `phase`, `seed` and what they are compared with; NaN where there is nothing.

    scores:  as `read_scores` gives them
    trials:  those of the scores, each once

    `baseline` is of the same seed; `delta_own` is against the no-stage chain with the trial's own target values.
    `unseen_by_both` is `core.scores.unseen_by_both` of the trial's score and the baseline's.
    """
    known = list(trials)
    numbers = np.array([trial.number for trial in known], dtype=np.int64)
    order = np.argsort(numbers, kind="stable")
    place = order[np.searchsorted(numbers, scores["trial"].to_numpy(), sorter=order)]
    plain = [at for at, trial in enumerate(known) if not trial.chain.stages]
    others = _Others(scores, place, plain)
    value, unseen = scores["value"].to_numpy(), scores["unseen"].to_numpy(dtype=bool)
    # A last element stands for the score that isn't there.
    values, unseens = np.append(value, np.nan), np.append(unseen, True)
    before = others.of(_baselines(known)[place])
    phases = pd.Categorical([trial.phase for trial in known])
    return scores.assign(
        phase=pd.Categorical.from_codes(phases.codes[place], dtype=phases.dtype),
        seed=np.array([trial.seed for trial in known], dtype=np.int64)[place],
        unseen_by_both=unseen & unseens[before],
        baseline=values[before],
        delta=value - values[before],
        delta_own=value - values[others.of(_owns(known, scores, place))],
    )


class _Others:
    """Looks a score up in another trial. T trials without a stage, K distinct scores a trial can have."""

    def __init__(self, scores: pd.DataFrame, place: Integers, plain: Sequence[int]) -> None:
        """place: each score's trial; plain: the trials that can be looked up"""
        self._key = np.zeros(len(scores), dtype=np.int64)
        size = 1
        for name in WORDS:
            categories = scores[name].cat
            self._key = self._key * len(categories.categories) + categories.codes.to_numpy()
            size *= len(categories.categories)
        last = max(int(place.max(initial=0)), max(plain, default=0))
        self._row = np.full(last + 2, -1, dtype=np.int64)
        self._row[list(plain)] = np.arange(len(plain))
        self._table = np.full((len(plain) + 1, size), -1, dtype=np.int64)
        mine = np.flatnonzero(self._row[place] >= 0)
        self._table[self._row[place[mine]], self._key[mine]] = mine

    def of(self, trial: Integers) -> Integers:
        """For every score where the same one of another trial is among all scores; -1 where there is no such score.

        trial: that trial's place, -1 for none
        """
        found: Integers = self._table[self._row[trial], self._key]
        return found


def _baselines(trials: Sequence[Trial]) -> Integers:
    """For each trial, where the baseline of its seed is; -1 for nowhere."""
    chains = {trial.chain for trial in trials if trial.phase == "baseline"}
    of_seed = {trial.seed: at for at, trial in enumerate(trials) if trial.chain in chains}
    return np.array([of_seed.get(trial.seed, -1) for trial in trials], dtype=np.int64)


def _owns(trials: Sequence[Trial], scores: pd.DataFrame, place: Integers) -> Integers:
    """For each score, the trial without a stage that has the same values for the score's target; -1 for none."""
    settings: dict[tuple[Encoder, tuple[Target, ...], int], int] = {}
    for at, trial in enumerate(trials):
        for target in trial.chain.targets if not trial.chain.stages else ():
            settings[trial.chain.encoder, trial.chain.line(target.name), trial.seed] = at
    tasks = {task: code for code, task in enumerate(scores["target"].cat.categories)}
    table = np.full((2, len(trials), len(tasks)), -1, dtype=np.int64)
    for at, trial in enumerate(trials):
        chain = trial.chain
        for target in chain.targets:
            if target.name in tasks:
                last = chain.followed.get(target.name, target)
                for kind, one in enumerate((target, last)):
                    key = (chain.encoder, chain.line(one.name), trial.seed)
                    table[kind, at, tasks[target.name]] = settings.get(key, -1)
    forgets = (scores["metric"] == FORGETTING).to_numpy().astype(np.int64)
    found: Integers = table[forgets, place, scores["target"].cat.codes.to_numpy()]
    return found
