"""Phrases that more than one place prints: chains in one line, texts without passwords."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tunexfer.core.chain import Chain, Stage

HIDDEN = "***"
WARNED_LEFT_OUT = 0.01
"""The share of rows above which a warning says that they are left out."""
_PASSWORD = re.compile(r"(://[^\s/:@]*):[^\s/]+(?=@)")


def without_passwords(text: str) -> str:
    """Write the text with `scheme://user:***@place` for every address in it that has a password."""
    return _PASSWORD.sub(rf"\1:{HIDDEN}", text)


def mlflow_name(key: str) -> str:
    """Replace what MLflow does not take in a name."""
    return re.sub(r"[^\w\-./ :]", "_", key)


def chain_in_words(chain: Chain) -> str:
    """Describe a chain in one line that a person can act on."""
    targets = [
        f"{target.words} ({_stage_in_words(target.stage)})" if target.stage else target.words
        for target in chain.targets
    ]
    return f"{stages_in_words(chain)} -> {', '.join(targets)}"


def stages_in_words(chain: Chain) -> str:
    """Describe the stages before the targets."""
    return (
        "; then ".join(f"{stage.name}: {_stage_in_words(stage)}" for stage in chain.stages) or "no intermediate stage"
    )


def stages_in_short(chain: Chain) -> list[str]:
    """Name what each stage trains on, without its recipe: tasks, then languages."""
    mixtures = [stage.mixture for stage in chain.stages]
    languages = [sorted({source.language for source in mixture.sources}) for mixture in mixtures]
    return [f"{'+'.join(own.tasks)} {'+'.join(codes)}" for own, codes in zip(mixtures, languages, strict=True)]


def _stage_in_words(stage: Stage) -> str:
    sources = stage.mixture.sources
    what = sources[0].language if len(sources) == 1 and sources[0].task == stage.name else str(stage.mixture)
    return f"{what}, {stage.steps} steps, lr {rate(stage.learning_rate)}"


def rate(value: float) -> str:
    """Write a learning rate as papers do: 5e-4."""
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def rows_in_words(used: int, left_out: Mapping[str, int]) -> str:
    """Say how many rows are used and why others aren't: '3 of 60 rows used; in 57 the answer is not at answer_start'.

    left_out: reason -> number of rows
    """
    reasons = sorted(left_out.items(), key=lambda item: -item[1])
    words = "".join(f"; in {count:,} {reason}" for reason, count in reasons)
    return f"{used:,} of {used + sum(left_out.values()):,} rows used{words}"


def many_left_out(used: int, left_out: Mapping[str, int]) -> bool:
    """Tell whether more rows are left out than a note is enough for."""
    count = sum(left_out.values())
    return count > WARNED_LEFT_OUT * (used + count)


def duration(seconds: float) -> str:
    """Write a time in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
