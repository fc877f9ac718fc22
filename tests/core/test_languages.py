from __future__ import annotations

import pytest

from tunexfer.core.languages import canonical, is_language, with_canonical_codes


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("eng", "en"),
        ("eng_Latn", "en"),
        ("EN", "en"),
        ("run_Latn", "rn"),
        ("arb_Arab", "ar"),
        ("swh", "sw"),
        ("zho_Hans", "zh"),
        ("zho_Hant", "zh-Hant"),
        ("pt_BR", "pt-BR"),
        ("tl", "tl"),
        ("fil", "tl"),
        ("twi", "tw"),
        ("bbj", "bbj"),
    ],
)
def test_a_language_has_one_code_however_it_is_written(written: str, code: str) -> None:
    """ISO 639-1 where there is one, else 639-3; a script or a country only where it isn't the usual one."""
    assert canonical(written) == code
    assert canonical(code) == code


@pytest.mark.parametrize("name", ["all", "gn_old", "train", "xx", "sentences", "", "en.bak"])
def test_other_names_are_no_codes_and_stay_as_they_are(name: str) -> None:
    assert not is_language(name)
    assert canonical(name) == name


def test_a_space_may_write_codes_as_its_data_does() -> None:
    space = {
        "stages": [{"languages": {"choice": [["eng"], ["fra", "de"]]}, "mixing": {"fixed": {"nli/eng": 1.0}}}],
        "targets": [{"task": "eng", "train_language": "eng_Latn", "languages": "all"}],
        "objective": {"languages": "train"},
    }
    assert with_canonical_codes(space) == {
        "stages": [{"languages": {"choice": [["en"], ["fr", "de"]]}, "mixing": {"fixed": {"nli/en": 1.0}}}],
        "targets": [{"task": "eng", "train_language": "en", "languages": "all"}],
        "objective": {"languages": "train"},
    }
