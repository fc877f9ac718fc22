"""Print the baseline's test scores beside those of guessing, as a Markdown table: `python table.py runs/real_rows`.

Guessing means: the most frequent label of the language's own test rows (xnli); its most frequent tag on every token
(udpos, F1 of tokens); no names (universal_ner); any sentence of the pool (tatoeba); no answer (xquad).
"""

from __future__ import annotations

import json
import sys
from collections import Counter

import pandas as pd

from tunexfer import Study


def guessed(target: str, gold: pd.Series) -> float:
    """Compute the score of guessing on rows with these gold answers, as a percentage."""
    if target == "xnli":
        return 100 * float(gold.value_counts(normalize=True).iloc[0])
    if target == "udpos":
        tags = Counter(tag for row in gold for tag in json.loads(row))
        return 100 * max(tags.values()) / sum(tags.values())
    return 100 / len(gold) if target == "tatoeba" else 0.0


def main() -> None:
    study = Study.load(sys.argv[1])
    trial = study.baseline()
    scores, rows = study.scores(), study.rows(trial)
    scores = scores[(scores["trial"] == trial) & (scores["split"] == "test") & scores["main"]]
    rows = rows[rows["split"] == "test"]
    print("| target | language | rows | guessing | score | |\n| --- | --- | ---: | ---: | ---: | --- |")
    for target, own in scores.groupby("target", sort=False, observed=True):
        for score in own.sort_values(["unseen", "value"], ascending=[True, False]).itertuples():
            gold = rows[(rows["target"] == target) & (rows["language"] == score.language)]["gold"]
            guess = f"{guessed(target, gold):.1f}"
            unseen = "unseen" if score.unseen else "trained on"
            print(f"| {target} | {score.language} | {len(gold)} | {guess} | {score.value:.1f} | {unseen} |")


if __name__ == "__main__":
    main()
