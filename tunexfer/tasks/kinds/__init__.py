"""The kinds of task. A new one is a module here and a line in `KINDS`."""

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
    "tagging": Tagging(),
    "multiple_choice": MultipleChoice(),
    "extractive_qa": ExtractiveQA(),
    "retrieval": Retrieval(),
    "mining": Mining(),
    "masked_lm": MaskedLM(),
}
