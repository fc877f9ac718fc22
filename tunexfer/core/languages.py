"""Codes of languages: one language has one code, however a data set writes it."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import langcodes

OTHERS = {"fil": "tl", "ak": "tw"}
"""Codes that langcodes prefers -> the ISO 639-1 code that data sets and URIEL have for the language."""
NO_LANGUAGES = {"all", "dev", "mis", "mul", "raw", "und", "zxx"}
"""Codes in ISO 639-3 that in the name of a file mean something else, or stand for no language."""
_FORM = re.compile("[A-Za-z]{2,3}([-_][A-Za-z]{4})?([-_]([A-Za-z]{2}|[0-9]{3}))?")


@cache
def canonical(code: str) -> str:
    """Return the ISO 639-1 code of a language where there is one, else its ISO 639-3 code.

    `eng`, `eng_Latn` and `EN` are `en`; `arb` is `ar`, the macrolanguage that it is the standard form of. A script or a
    country stays only where it isn't the language's usual one: `zh-Hant`, `pt-BR`. What is no code stays as it is.
    """
    if not is_language(code):
        return code
    language = langcodes.Language.get(code).prefer_macrolanguage()
    own = OTHERS.get(str(language.language), str(language.language))
    script = None if language.script == langcodes.Language.get(own).maximize().script else language.script
    return "-".join([own, *filter(None, (script, language.territory))])


@cache
def is_language(code: str) -> bool:
    """Tell whether this is a code of ISO 639, with or without a script and a country, as FLORES and BCP 47 write it."""
    if not _FORM.fullmatch(code) or code.lower() in NO_LANGUAGES:
        return False
    return langcodes.Language.get(code).is_valid()


def with_canonical_codes(block: Any, *, named: bool = False) -> Any:
    """Return a part of a space file with the canonical code of every language in it.

    named: whether the part stands under `languages:` or `train_language:`, so that its texts are codes; keys such as
        `nli/eng` end in one anywhere
    """
    if isinstance(block, dict):
        return {
            _with_language(key): with_canonical_codes(value, named=named or key in ("languages", "train_language"))
            for key, value in block.items()
        }
    if isinstance(block, list):
        return [with_canonical_codes(item, named=named) for item in block]
    return canonical(block) if named and isinstance(block, str) else block


def _with_language(key: Any) -> Any:
    task, slash, language = key.rpartition("/") if isinstance(key, str) else ("", "", "")
    return f"{task}/{canonical(language)}" if slash else key
