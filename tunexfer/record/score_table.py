"""The score table: every score of a study beside its baseline's. All differences between chains are computed here."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import json as arrow_json

from tunexfer.core.chain import Chain
from tunexfer.core.files import TrialFolder
from tunexfer.core.scores import FORGETTING
from tunexfer.core.trial import Trial

WORDS = ("target", "language", "split", "metric")
"""The columns that identify a score within a trial."""
SCORES_SCHEMA = pa.schema(
    [("study", pa.string()), ("trial", pa.int32()), ("phase", pa.string()), ("seed", pa.int64())]
    + [(name, pa.string()) for name in WORDS]
    + [("value", pa.float64())]
    + [(name, pa.bool_()) for name in ("main", "unseen", "unseen_by_both")]
    + [(name, pa.float64()) for name in ("baseline", "delta", "delta_own")]
)
"""Columns of `scores.parquet`; `score_table` describes them."""
COLUMNS = [name for name in SCORES_SCHEMA.names if name != "study"]
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in WORDS] + [("value", pa.float64()), ("main", pa.bool_()), ("unseen", pa.bool_())]
)
_TOGETHER = 64
"""Files parsed at once: starting a parser costs more than parsing a file."""
_NAME, _OLD_NAME = b'{"target": "', b'{"task": "'
"""The beginning of a line; version 0.1 calls the target `task`."""


def score_table(scores: pd.DataFrame, trials: Iterable[Trial]) -> pd.DataFrame:
    """Put every score beside the baseline's.

    scores:  as `read_scores` returns them
    trials:  at least those of the scores
    returns: the same rows with the columns of `SCORES_SCHEMA` except `study`. `baseline` is the score of the chain
             without stages that has the trial's own target values and seed, or else that of the study's baseline with
             the same seed; `delta` are the points gained over it, `delta_own` the same where the values are the
             trial's own; NaN where no such score exists. `unseen_by_both`: unseen by the trial and by its baseline;
             otherwise a chain that trained its target in German would be compared, in English, with a baseline that
             was trained in English.
    """
    trials = list(trials)
    table = scores.merge(_phases(trials), how="left", on="trial")
    table["forgetting"] = table["metric"] == FORGETTING
    before = _beside(table, scores, _baselines(trials), on=["trial"])
    targets = _own_targets(trials).astype({"target": table["target"].dtype})
    own = _beside(table, scores, targets, on=["trial", "target", "forgetting"])
    stages = {trial.number: bool(trial.chain.stages) for trial in trials}
    staged = table["trial"].map(stages).to_numpy(dtype=bool)
    # A chain without stages is its own: what it gains is what its target values gain over the baseline's.
    has_own = (own["value"].notna() & before["value"].notna()).to_numpy() & staged
    before = own.where(np.column_stack([has_own, has_own]), before)
    # Without a baseline to compare with, which is NaN here, the trial alone decides.
    table["unseen_by_both"] = table["unseen"] & (before["unseen"] != 0).to_numpy()
    table["baseline"] = before["value"].to_numpy()
    table["delta"] = table["value"] - table["baseline"]
    table["delta_own"] = table["value"] - own["value"].to_numpy()
    return table[COLUMNS]


def _beside(table: pd.DataFrame, scores: pd.DataFrame, others: pd.DataFrame, on: list[str]) -> pd.DataFrame:
    """Look every score of `table` up in the trial that `others` names for it; NaN where that trial has no such score.

    others: the columns `on`, and `other`, a trial's number
    """
    theirs = scores[scores["trial"].isin(others["other"])].rename(columns={"trial": "other"})
    theirs = theirs.assign(unseen=theirs["unseen"].astype("float32"))[["other", *WORDS, "value", "unseen"]]
    keys = table[["trial", "forgetting", *WORDS]].merge(others, how="left", on=on)[["other", *WORDS]]
    found = keys.fillna({"other": -1}).astype({"other": "int64"})
    return found.merge(theirs, how="left", on=["other", *WORDS], validate="many_to_one")[["value", "unseen"]]


def _phases(trials: Sequence[Trial]) -> pd.DataFrame:
    rows = [(trial.number, trial.phase, trial.seed) for trial in trials]
    return pd.DataFrame(rows, columns=["trial", "phase", "seed"]).astype({"phase": "category"})


def _baselines(trials: Sequence[Trial]) -> pd.DataFrame:
    """Map each trial to the baseline with its seed."""
    chains = {trial.chain for trial in trials if trial.phase == "baseline"}
    by_seed = {trial.seed: trial.number for trial in trials if trial.chain in chains}
    rows = [(trial.number, by_seed.get(trial.seed)) for trial in trials]
    return pd.DataFrame(rows, columns=["trial", "other"], dtype="float64").astype({"trial": "int64"})


def _own_targets(trials: Sequence[Trial]) -> pd.DataFrame:
    """Map each trial's targets to the trial without stages that trained the target alike.

    Forgetting is a score of the last target trained on top, so that target's values count for it.
    """

    def key(chain: Chain, target: str, seed: int) -> tuple[object, ...]:
        return chain.encoder, chain.line(target), seed

    plain = {
        key(trial.chain, target.name, trial.seed): trial.number
        for trial in trials
        if not trial.chain.stages
        for target in trial.chain.targets
    }
    rows = [
        (trial.number, target.name, forgetting, plain.get(key(trial.chain, scored_by.name, trial.seed)))
        for trial in trials
        for target in trial.chain.targets
        for forgetting, scored_by in enumerate((target, trial.chain.followed.get(target.name, target)))
    ]
    kinds = {"trial": "int64", "forgetting": "bool", "other": "float64"}
    return pd.DataFrame(rows, columns=["trial", "target", "forgetting", "other"]).astype(kinds)


def read_scores(folders: Sequence[TrialFolder]) -> tuple[pd.DataFrame, dict[int, str]]:
    """Read the scores of complete trials.

    returns: a row per score with `trial` and the fields of `core.scores.Score`, words as categories; and the reason for
             each trial whose scores can't be read
    """
    damaged: dict[int, str] = {}
    schema = _SCHEMA.insert(0, pa.field("trial", pa.int64()))
    tables = [_categories(table) for table in _tables(folders, damaged)]
    whole = pa.concat_tables([_categories(schema.empty_table()), *tables]).unify_dictionaries().combine_chunks()
    return whole.to_pandas(), damaged


def _tables(folders: Sequence[TrialFolder], damaged: dict[int, str]) -> Iterator[pa.Table]:
    """Yield the scores, many trials at a time; note in `damaged` what can't be read."""
    for start in range(0, len(folders), _TOGETHER):
        some = folders[start : start + _TOGETHER]
        try:
            yield _read(some)
        except (OSError, ValueError):
            for folder in some:
                try:
                    yield _read([folder])
                except (OSError, ValueError) as error:
                    damaged[folder.number] = next(iter(str(error).splitlines()), type(error).__name__)


def _categories(table: pa.Table) -> pa.Table:
    for place, name in enumerate(table.schema.names):
        if name in WORDS:
            table = table.set_column(place, name, table[name].combine_chunks().dictionary_encode())
    return table


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
