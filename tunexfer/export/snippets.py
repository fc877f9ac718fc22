"""How each exported folder is used, in the few plain lines that the model card shows."""

from __future__ import annotations

from tunexfer.core.chain import Pooling
from tunexfer.tasks.kinds.extractive_qa import MAX_ANSWER, N_BEST

WHOLE = """\
import torch
from transformers import {auto}, AutoTokenizer

folder = "{folder}"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = {auto}.from_pretrained(folder).eval()


def logits(batch):
    {logits}

"""
"""Encoder and head are one model."""
WHOLE_LOGITS = {
    "sequence": "return model(**batch).logits",
    "token": "return model(**batch).logits",
    "span": "found = model(**batch)\n    return torch.stack([found.start_logits, found.end_logits], dim=-1)",
    "choice": "return model(**{name: one[None] for name, one in batch.items()}).logits",
}

APART = """\
import torch
from safetensors.torch import load_file
from torch.nn.functional import linear
from transformers import AutoModel, AutoTokenizer

folder = "{folder}"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModel.from_pretrained(folder{options}).eval()
head = load_file(folder + "/head.safetensors")


def logits(batch):
    hidden = model(**batch).last_hidden_state
{logits}

"""
"""The head lies beside the encoder."""
PIECES = """\
    return linear(hidden, head["linear.weight"], head["linear.bias"])"""
POOLED: dict[Pooling, str] = {
    "first": """\
    pooled = hidden[:, 0]""",
    "mean": """\
    kept = batch["attention_mask"].unsqueeze(-1)
    pooled = (hidden * kept).sum(1) / kept.sum(1)""",
}
DENSE = """
    inside = linear(pooled, head["dense.weight"], head["dense.bias"]).tanh()
    return linear(inside, head["out_proj.weight"], head["out_proj.bias"])"""

PREDICT = {
    "sequence": """
@torch.inference_mode()
def predict(texts, pairs=None):
    batch = tokenizer(texts, pairs, padding=True, truncation=True, return_tensors="pt")
    return [model.config.id2label[place] for place in logits(batch).argmax(-1).tolist()]
""",
    "choice": """
@torch.inference_mode()
def predict(prompt, options):
    prompts = [prompt] * len(options)
    batch = tokenizer(prompts, options, padding=True, truncation="only_first", return_tensors="pt")
    return int(logits(batch).argmax())  # the option's number, from 0
""",
    "token": """
@torch.inference_mode()
def predict(sentences):  # lists of words
    batch = tokenizer(sentences, is_split_into_words=True, padding=True, truncation=True, return_tensors="pt")
    chosen = logits(batch).argmax(-1).tolist()
    labels = model.config.id2label
    found = []
    for number, words in enumerate(sentences):
        places = batch.word_ids(number)  # a word's tag is that of its first piece; None where there is none
        firsts = [places.index(word) if word in places else None for word in range(len(words))]
        found.append([None if first is None else labels[chosen[number][first]] for first in firsts])
    return found
""",
    "span": f"""
@torch.inference_mode()
def predict(question, context):
    batch = tokenizer(question, context, truncation="only_second", return_offsets_mapping=True, return_tensors="pt")
    offsets = batch.pop("offset_mapping")[0].tolist()
    both = logits(batch)[0]
    likely = both >= both.topk(min({N_BEST}, len(both)), dim=0).values[-1]
    likely &= torch.tensor([[text == 1] for text in batch.sequence_ids(0)])  # not in the question
    start, end = both.masked_fill(~likely, -torch.inf).unbind(-1)
    spans = start[:, None] + end
    allowed = torch.ones_like(spans).triu().tril({MAX_ANSWER - 1}).bool()  # at most {MAX_ANSWER} pieces
    first, last = divmod(int(spans.masked_fill(~allowed, -torch.inf).argmax()), len(end))
    return context[offsets[first][0] : offsets[last][1]].strip()
""",
}

VECTORS = """\
import torch
from transformers import AutoModel, AutoTokenizer

folder = "{folder}"
tokenizer = AutoTokenizer.from_pretrained(folder)
encoder = AutoModel.from_pretrained(folder{options}).eval()


@torch.inference_mode()
def predict(texts):  # sentence vectors of length 1
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    hidden = encoder(**batch, output_hidden_states=True).hidden_states[{layer}]
    kept = batch["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((hidden * kept).sum(1) / kept.sum(1))
"""
"""There is no head."""


def with_whole_model(folder: str, kind: str, auto: str) -> str:
    """kind: of head, as in `training.model.HEADS`; auto: the class of transformers that loads it"""
    return WHOLE.format(auto=auto, folder=folder, logits=WHOLE_LOGITS[kind]) + PREDICT[kind]


def with_head_apart(folder: str, kind: str, pooling: Pooling, options: str) -> str:
    """options: what `AutoModel.from_pretrained` takes after the folder"""
    logits = POOLED[pooling] + DENSE if kind in ("sequence", "choice") else PIECES
    return APART.format(folder=folder, options=options, logits=logits) + PREDICT[kind]


def with_vectors(folder: str, layer: int | None, options: str) -> str:
    """layer: as in `core.chain.Target`"""
    return VECTORS.format(folder=folder, options=options, layer=-1 if layer is None else layer)
