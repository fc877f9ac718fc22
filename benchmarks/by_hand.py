"""A chain as one would write it with the libraries alone: Ray Tune, transformers' Trainer, Ray's MLflow callback.

Every trial is a fresh actor that loads the encoder whole, runs its whole chain, and predicts every language; nothing is
kept for the next trial. The recipe (heads, shares, steps, optimizer, schedule) is the one tunexfer's stages use, and
the scoring functions are borrowed from it. With `exactly` in the job so are the rows of each step, the heads' first
values and the precision, and only the code differs.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset, load_dataset
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from transformers import AutoModel, AutoTokenizer, Trainer, TrainingArguments

from tunexfer.cli.main import cache_folder
from tunexfer.core.chain import Mixture, Source
from tunexfer.data.batches import batch_plan
from tunexfer.data.checkpoint import resolve_encoder
from tunexfer.plan.plan import Plan
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import TaskBlock
from tunexfer.training.model import new_heads

transformers.logging.set_verbosity_error()


class MultiTaskModel(nn.Module):
    """A shared encoder, mean pooling, and a head per task."""

    def __init__(self, encoder: Any, tasks: dict[str, TaskBlock]) -> None:
        super().__init__()
        self.encoder, self.tasks, width = encoder, tasks, encoder.config.hidden_size
        self.token_level = {name for name, task in tasks.items() if task.kind == "tagging"}
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Dropout(0.1), nn.Linear(width, len(task.labels)))
                if name in self.token_level
                else nn.Sequential(
                    *(nn.Dropout(0.1), nn.Linear(width, width), nn.Tanh(), nn.Dropout(0.1)),
                    nn.Linear(width, len(task.labels)),
                )
                for name, task in tasks.items()
            }
        )
        for module in self.heads.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, task: str, input_ids: Any, attention_mask: Any, labels: Any = None) -> Any:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if task not in self.token_level:
            mask = attention_mask.unsqueeze(-1)
            hidden = (hidden * mask).sum(1) / mask.sum(1)
        logits = self.heads[task](hidden)
        if labels is None:
            return logits
        return {"loss": nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten()), "logits": logits}


def job_of(plan: Plan, *, exactly: bool = False) -> dict[str, Any]:
    """What `ByHand` needs to know of a plan, as plain values."""
    encoder = plan.encoders[0]
    return {
        "encoder": str(resolve_encoder(encoder, cache_folder())),
        "freeze_embeddings": encoder.freeze_embeddings,
        "exactly": exactly,
        "bf16": exactly and plan.precision == "bf16",  # Trainer's default is float32
        "root": str(plan.rows.root),
        "tasks": {name: task.model_dump() for name, task in plan.suite.tasks.items()},
        "evaluated": sorted(plan.evaluated),
        "sources": [asdict(source) for source in sorted(plan.possible_sources)],
    }


def difference(one: dict[str, float], other: dict[str, float]) -> float:
    """Mean absolute difference of a chain's scores, in points."""
    return sum(abs(value - other[name]) for name, value in one.items()) / len(one)


class ByHand:
    """Rows of the suite's files, encoded with `Dataset.map`, and the chain's stages on them."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.tasks = {name: TaskBlock.model_validate(block) for name, block in job["tasks"].items()}
        self.tokenizer = AutoTokenizer.from_pretrained(job["encoder"])
        self.encoder = AutoModel.from_pretrained(job["encoder"], add_pooling_layer=False)
        self.encoder.get_input_embeddings().weight.requires_grad = not job["freeze_embeddings"]
        self.place: Any = None
        if job.get("trim"):
            self.trim()

    def trim(self) -> None:
        """Only for the breakdown: keep the embeddings of the pieces that the chains' texts use."""
        train = {(s["task"], s["language"], "train") for s in self.job["sources"]}
        used = {1, 2, 3} | {
            piece
            for key in sorted(train | {tuple(one) for one in self.job["evaluated"]})
            for feature in self.features(*key)
            for piece in feature["input_ids"]
        }
        kept = torch.tensor(sorted({0} | used))
        self.place = torch.zeros(int(kept[-1]) + 1, dtype=torch.long)
        self.place[kept] = torch.arange(len(kept))
        old = self.encoder.get_input_embeddings()
        new = nn.Embedding.from_pretrained(
            old.weight[kept].detach(), freeze=not old.weight.requires_grad, padding_idx=1
        )
        self.encoder.set_input_embeddings(new)

    def rows(self, task: str, language: str, split: str) -> list[dict[str, Any]]:
        path = Path(self.job["root"]) / task / language / f"{split}.jsonl"
        found = load_dataset("json", data_files=str(path), split="train")
        kind, block = KINDS[self.tasks[task].kind], self.tasks[task]
        return [{"id": str(place)} | (kind.read(row, block) or {}) for place, row in enumerate(found)]

    def features(self, task: str, language: str, split: str) -> Dataset:
        block = self.tasks[task]
        made = KINDS[block.kind].encode(
            self.rows(task, language, split), self.tokenizer, block, training=split == "train"
        )
        return Dataset.from_list([{key: value for key, value in one.items() if key != "words"} for one in made])

    def collate(self, task: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.tokenizer.pad({"input_ids": [row["input_ids"] for row in rows]}, return_tensors="pt")
        if self.place is not None:
            batch["input_ids"] = self.place[batch["input_ids"]]
        if "labels" in rows[0]:
            width = batch["input_ids"].shape[1]
            labels = [row["labels"] + [-100] * (width - len(row["labels"])) for row in rows]
            return {"task": task, **batch, "labels": torch.tensor(labels)}
        if "label" in rows[0]:
            return {"task": task, **batch, "labels": torch.tensor([row["label"] for row in rows])}
        return {"task": task, **batch}

    def train(self, stage: dict[str, Any], seed: int) -> MultiTaskModel:
        torch.manual_seed(seed)
        sources = tuple(Source(**source) for source in stage["mixture"]["sources"])
        mixture = Mixture(sources=sources, shares=tuple(stage["mixture"]["shares"]))
        data = {source: self.features(source.task, source.language, "train") for source in sources}
        model = MultiTaskModel(self.encoder, {task: self.tasks[task] for task in mixture.tasks})
        if self.job["exactly"]:
            for name, head in new_heads(model.tasks, self.encoder.config, seed).items():
                vector_to_parameters(parameters_to_vector(head.parameters()), model.heads[name].parameters())
            batches = self.same_batches(stage, mixture, data, seed)
        else:
            batches = list(self.batches(stage, mixture, data, seed))
        with tempfile.TemporaryDirectory() as scratch:
            arguments = TrainingArguments(
                scratch,
                max_steps=stage["steps"],
                learning_rate=stage["learning_rate"],
                warmup_steps=0.1,
                weight_decay=0.01,
                per_device_train_batch_size=1,
                train_sampling_strategy="sequential",
                remove_unused_columns=False,
                bf16=self.job["bf16"],
                use_cpu=True,
                seed=seed,
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
            )
            Trainer(
                model=model, args=arguments, train_dataset=batches, data_collator=lambda one: self.collate(*one[0])
            ).train()
        return model

    def same_batches(
        self, stage: dict[str, Any], mixture: Mixture, data: dict[Source, Dataset], seed: int
    ) -> list[Any]:
        """The rows that tunexfer takes in each step."""
        lengths = {source: np.array([len(ids) for ids in own["input_ids"]]) for source, own in data.items()}
        plan = batch_plan(lengths, mixture, steps=stage["steps"], batch_size=stage["batch_size"], seed=seed)
        return [(batch.task, [data[source][row] for source, row in batch.rows]) for batch in plan]

    def batches(
        self, stage: dict[str, Any], mixture: Mixture, data: dict[Source, Dataset], seed: int
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Each of one task, drawn by the shares; within it each row's source is drawn by the shares too."""
        draw, tasks, shares = np.random.default_rng(seed), mixture.tasks, np.array(mixture.shares)
        weight = np.array([shares[[task == own.task for own in mixture.sources]].sum() for task in tasks])
        passes: dict[Source, list[int]] = {source: [] for source in mixture.sources}
        for _ in range(stage["steps"]):
            task = tasks[draw.choice(len(tasks), p=weight / weight.sum())]
            own = [index for index, source in enumerate(mixture.sources) if source.task == task]
            rows = []
            for index in draw.choice(own, size=stage["batch_size"], p=shares[own] / shares[own].sum()):
                source = mixture.sources[index]
                passes[source] = passes[source] or draw.permutation(len(data[source])).tolist()
                rows.append(data[source][passes[source].pop()])
            yield task, rows

    def predict(self, model: MultiTaskModel | None, task: str, features: Dataset, batch_size: int = 64) -> list[Any]:
        """One array per feature, in their order."""
        found = []
        for start in range(0, len(features), batch_size):
            rows = [features[place] for place in range(start, min(start + batch_size, len(features)))]
            batch = self.collate(task, rows)
            batch.pop("labels", None)
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.job["bf16"]):
                if model is not None:
                    output = model.eval()(**batch)
                else:
                    mask = batch["attention_mask"].unsqueeze(-1)
                    hidden = self.encoder.eval()(batch["input_ids"], batch["attention_mask"]).last_hidden_state
                    output = nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
            found += [
                one[: len(row["input_ids"])] if model and task in model.token_level else one
                for one, row in zip(output.float().numpy(), rows, strict=True)
            ]
        return found

    def score(self, model: MultiTaskModel | None, task: str, language: str, split: str) -> float:
        block, kind = self.tasks[task], KINDS[self.tasks[task].kind]
        rows = self.rows(task, language, split)
        made = kind.encode(rows, self.tokenizer, block, training=False)
        outputs = self.predict(
            model, task, Dataset.from_list([{k: v for k, v in f.items() if k != "words"} for f in made])
        )
        predictions = kind.predict(rows, made, outputs, block, language)
        columns = {key: [one[key] for one in predictions] for key in predictions[0]}
        return float(kind.summarise(columns)[block.metric or kind.main_metric])

    def run(self, chain: dict[str, Any], seed: int) -> dict[str, float]:
        for stage in chain["stages"]:
            self.train(stage, seed)
        after = copy.deepcopy(self.encoder.state_dict())
        scores = {}
        for target in chain["targets"]:
            self.encoder.load_state_dict(after)
            model = self.train(target["stage"], seed) if target["stage"] else None
            for task, language, split in self.job["evaluated"]:
                if task == target["task"]:
                    scores[f"{split}/{task}/{language}"] = self.score(model, task, language, split)
        return scores


def trial(config: dict[str, Any], job: dict[str, Any]) -> None:
    """One of Ray Tune's trials."""
    torch.set_num_threads(1)
    scores = ByHand(job).run(json.loads(config["chain"]), job["seed"])
    validation = [value for name, value in scores.items() if name.startswith("validation")]
    tune.report({**scores, "objective": sum(validation) / len(validation)})


def search(chains: list[dict[str, Any]], job: dict[str, Any], folder: Path) -> None:
    """Run each chain as a trial."""
    callback = MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder}/by_hand.db", experiment_name="by-hand")
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trial, job=job), {"cpu": 1}),
        param_space={"chain": tune.grid_search([json.dumps(chain) for chain in chains])},
        tune_config=tune.TuneConfig(reuse_actors=bool(job.get("warm"))),
        run_config=tune.RunConfig(storage_path=str(folder / "ray"), callbacks=[callback], verbose=0),
    )
    results = tuner.fit()
    if results.errors:
        raise results.errors[0]
