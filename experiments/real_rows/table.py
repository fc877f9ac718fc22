"""The baseline's test scores beside what a guesser gets, as a Markdown table: `python table.py runs/real_rows`.

Guessers: the most frequent label of the language's own test rows (xnli); its most frequent tag on every token (udpos,
F1 of tokens); no names (universal_ner); any sentence of the pool (tatoeba). For xquad there is none to speak of.
"""

from __future__ import annotations

import json
import sys
from collections import Counter

import pandas as pd

from tunexfer import Study


def guessed(task: str, gold: pd.Series) -> float:
    """What guessing scores on rows with these gold answers, a percentage."""
    if task == "xnli":
        return 100 * float(gold.value_counts(normalize=True).iloc[0])
    if task == "udpos":
        tags = Counter(tag for row in gold for tag in json.loads(row))
        return 100 * max(tags.values()) / sum(tags.values())
    return 100 / len(gold) if task == "tatoeba" else 0.0


def main() -> None:
    study = Study.load(sys.argv[1])
    trial = study.baseline()
    scores, rows = study.scores(), study.rows(trial)
    scores = scores[(scores["trial"] == trial) & (scores["split"] == "test") & scores["main"]]
    rows = rows[rows["split"] == "test"]
    print("| target | language | rows | guessing | score | |\n| --- | --- | ---: | ---: | ---: | --- |")
    for task, of_task in scores.groupby("task", sort=False):
        for one in of_task.sort_values(["unseen", "value"], ascending=[True, False]).itertuples():
            gold = rows[(rows["task"] == task) & (rows["language"] == one.language)]["gold"]
            guess = f"{guessed(task, gold):.1f}"
            unseen = "unseen" if one.unseen else "trained on"
            print(f"| {task} | {one.language} | {len(gold)} | {guess} | {one.value:.1f} | {unseen} |")


if __name__ == "__main__":
    main()
