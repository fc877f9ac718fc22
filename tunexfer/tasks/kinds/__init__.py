"""The kinds of task. A new kind is a module here and a line in `KINDS`."""

import pyarrow as pa

from tunexfer.tasks.kinds.base import Kind
from tunexfer.tasks.kinds.classification import Classification
from tunexfer.tasks.kinds.extractive_qa import ExtractiveQA
from tunexfer.tasks.kinds.masked_lm import MaskedLM
from tunexfer.tasks.kinds.mining import Mining
from tunexfer.tasks.kinds.multiple_choice import MultipleChoice
from tunexfer.tasks.kinds.retrieval import Retrieval
from tunexfer.tasks.kinds.tagging import Tagging

KINDS: dict[str, Kind] = {
    "classification": Classification(),
    "multiple_choice": MultipleChoice(),
    "extractive_qa": ExtractiveQA(),
    "tagging": Tagging(),
    "retrieval": Retrieval(),
    "mining": Mining(),
    "masked_lm": MaskedLM(),
}

ROWS_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("task", "language", "split", "id", "cluster", "gold", "prediction")]
    + list({name: kind for own in KINDS.values() for name, kind in own.statistics.items()}.items())
)
"""The schema of evaluation rows: one per scored row, `gold` and `prediction` as JSON, then every kind's statistics."""
