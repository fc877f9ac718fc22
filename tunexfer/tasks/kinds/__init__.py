"""The kinds of task. A new kind is a module here and a line in `KINDS`."""

import pyarrow as pa

from tunexfer.tasks.kinds import classification, extractive_qa, masked_lm, mining, multiple_choice, retrieval, tagging
from tunexfer.tasks.kinds.base import Kind

KINDS: dict[str, Kind] = {
    "classification": classification.KIND,
    "multiple_choice": multiple_choice.KIND,
    "extractive_qa": extractive_qa.KIND,
    "tagging": tagging.KIND,
    "retrieval": retrieval.KIND,
    "mining": mining.KIND,
    "masked_lm": masked_lm.KIND,
}

ROWS_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("task", "language", "split", "id", "cluster", "gold", "prediction")]
    + list({name: kind for own in KINDS.values() for name, kind in own.statistics.items()}.items())
)
"""The schema of evaluation rows: one per scored row, `gold` and `prediction` as JSON, then every kind's statistics."""
