"""Files of Universal Dependencies become the words that XTREME counts, worked out by hand from its rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunexfer.data.conllu import conllu_rows
from tunexfer.data.rows import Rows
from tunexfer.errors import DataError
from tunexfer.tasks.suite import ReadOptions, Suite

IL_VIENT_DU_MARCHE = """\
# sent_id = fr-1
# text = Il vient du marché
1 Il PRON 2
2 vient VERB 0
3-4 du _ _
3 de ADP 5
4 le DET 5
5 marché NOUN 2
"""
DAMELO = "1-3 Dámelo _ _\n1 Da VERB 0\n2 me PRON 1\n3 lo PRON 1\n4 . PUNCT 1\n"


def conllu(text: str) -> str:
    """Number, form, tag and head (and enhanced graph) of each word, `~` for a space in a form, as CoNLL-U."""
    lines = []
    for line in text.splitlines():
        if line.startswith("#") or not line:
            lines.append(line)
            continue
        number, form, tag, head, *graph = line.split(" ")
        lines.append("\t".join([number, form.replace("~", " "), "_", tag, "_", "_", head, "dep", *(graph or "_"), "_"]))
    return "\n".join([*lines, "", ""])


def read(folder: Path, text: str, language: str = "xx") -> list[tuple[str, str]]:
    """Each sentence's words and tags, in one line each."""
    file = folder / "x.conllu"
    file.write_text(conllu(text), encoding="utf-8")
    return [(" ".join(row["tokens"]), " ".join(row["pos_tags"])) for row in conllu_rows(file, language, ReadOptions())]


def test_a_fused_token_is_one_word_with_the_tag_preferred_of_words_as_high(tmp_path: Path) -> None:
    assert read(tmp_path, IL_VIENT_DU_MARCHE) == [("Il vient du marché", "PRON VERB ADP NOUN")]


def test_a_fused_token_has_the_tag_of_its_highest_word(tmp_path: Path) -> None:
    assert read(tmp_path, DAMELO) == [("Dámelo .", "VERB PUNCT")]
    and_he_wrote = "1-2 وكتب _ _\n1 و CCONJ 2\n2 كتب VERB 0\n"
    assert read(tmp_path, and_he_wrote) == [("وكتب", "VERB")]
    in_the_house = "1 tam VERB 0\n2-3 evdeydi _ _\n2 evde NOUN 3\n3 ydi AUX 1\n"
    assert read(tmp_path, in_the_house) == [("tam evdeydi", "VERB AUX")]


def test_what_is_preferred_depends_on_the_language(tmp_path: Path) -> None:
    eccolo = "1-2 eccolo _ _\n1 ecco ADV 3\n2 lo PRON 3\n3 qui VERB 0\n"
    assert read(tmp_path, eccolo, "it") == [("eccolo qui", "ADV VERB")]
    assert read(tmp_path, eccolo, "de") == [("eccolo qui", "PRON VERB")]


def test_a_tag_that_has_no_place_in_the_order_comes_last(tmp_path: Path) -> None:
    assert read(tmp_path, "1-2 5% _ _\n1 % SYM 3\n2 5 NUM 3\n3 x VERB 0\n") == [("5% x", "NUM VERB")]
    assert read(tmp_path, "1-2 ab _ _\n1 a SYM 3\n2 b NOUN 3\n3 x VERB 0\n", "es") == [("ab x", "SYM VERB")]


def test_heads_of_the_enhanced_graph_count_as_well(tmp_path: Path) -> None:
    """In the tree both are one step below the verb; in the graph the noun hangs on the fourth word, too."""
    tree = "1-2 ab _ _\n1 a NOUN 3 {}\n2 b DET 3\n3 x VERB 0\n4 y VERB 3\n"
    assert read(tmp_path, tree.format("3:obj")) == [("ab x y", "NOUN VERB VERB")]
    assert read(tmp_path, tree.format("3:obj|4:obj")) == [("ab x y", "DET VERB VERB")]


def test_a_graph_with_a_circle_ends(tmp_path: Path) -> None:
    assert read(tmp_path, "1-2 ab _ _\n1 a NOUN 2\n2 b VERB 1 1:x|0:root\n") == [("ab", "VERB")]


def test_empty_nodes_are_passed_over(tmp_path: Path) -> None:
    assert read(tmp_path, "1 I PRON 2\n2 won VERB 0\n2.1 won VERB _ 0:root\n3 too ADV 2 2.1:advmod\n") == [
        ("I won too", "PRON VERB ADV")
    ]


def test_spaces_and_zero_width_non_joiners_inside_a_form_are_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, "1 học~sinh NOUN 0\n2 می‌رود VERB 1\n") == [("họcsinh میرود", "NOUN VERB")]


def test_sentences_whose_forms_are_withheld_are_left_out(tmp_path: Path) -> None:
    """One form that is given is too few, two are enough: XTREME's rule."""
    given = [" ".join(["_"] * 4), "a _ _ _", "a b _ _", "a b c d"]
    text = "\n".join(
        "".join(f"{place} {form} NOUN 0\n" for place, form in enumerate(one.split(), start=1)) for one in given
    )
    assert [words for words, _ in read(tmp_path, text)] == ["a b _ _", "a b c d"]


@pytest.mark.parametrize("text", ["1\tone\tNOUN\n\n", "one" + "\t_" * 9 + "\n\n", "2" + "\tNOUN" * 9 + "\n\n"])
def test_what_is_no_conllu_is_named_by_file_and_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.conllu"
    file.write_text(conllu(DAMELO) + text)
    with pytest.raises(DataError, match=r"x\.conllu, line 7: not a sentence in the ten columns of CoNLL-U"):
        list(conllu_rows(file, "es", ReadOptions()))


# As a task


@pytest.fixture
def treebanks(tmp_path: Path) -> Rows:
    """Two treebanks of French and one of Old French, as they are released."""
    for name, text in (
        ("UD_French-Sequoia/fr_sequoia-ud-train", IL_VIENT_DU_MARCHE),
        ("UD_French-GSD/fr_gsd-ud-train", "1 Oui INTJ 0\n\n1 Non INTJ 0\n"),
        ("UD_French-GSD/fr_gsd-ud-dev", "1 Peut-être ADV 0\n"),
        ("UD_Old_French-SRCMF/fro_srcmf-ud-train", "1 Oïl INTJ 0\n"),
    ):
        file = tmp_path / "ud" / f"{name}.conllu"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(conllu(text), encoding="utf-8")
    task = {
        "kind": "tagging",
        "files": "UD_*/{language}_*-ud-{split}.conllu",
        "splits": {"validation": "dev"},
        "columns": {"tokens": "tokens", "tags": "pos_tags"},
        "labels": ["ADP", "ADV", "INTJ", "NOUN", "PRON", "VERB"],
    }
    return Rows(
        Suite.model_validate({"name": "ud", "root": "ud", "tasks": {"pos": task}}), tmp_path, tmp_path / "cache"
    )


def test_all_treebanks_of_a_language_are_its_rows_by_their_names(treebanks: Rows) -> None:
    assert treebanks.languages("pos", "train") == ["fr", "fro"]
    assert treebanks.count("pos", "fr", "train") == 3
    table = treebanks.table("pos", "fr", "train")
    assert table["tokens"].to_pylist() == [["Oui"], ["Non"], ["Il", "vient", "du", "marché"]]
    assert table["id"].to_pylist() == ["0", "1", "2"]
    assert treebanks.table("pos", "fr", "validation")["tokens"].to_pylist() == [["Peut-être"]]


def test_content_depends_on_every_treebank(treebanks: Rows, tmp_path: Path) -> None:
    before = treebanks.content("pos", "fr", "train"), treebanks.content("pos", "fro", "train")
    (tmp_path / "ud/UD_French-GSD/fr_gsd-ud-train.conllu").write_text(conllu("1 Si INTJ 0\n"))
    assert treebanks.content("pos", "fr", "train") != before[0]
    assert treebanks.content("pos", "fro", "train") == before[1]


def test_a_language_without_a_treebank_is_told(treebanks: Rows) -> None:
    with pytest.raises(DataError, match=r"no test rows in 'fr': .*UD_\*/fr_\*-ud-test\.conllu isn't there"):
        treebanks.table("pos", "fr", "test")


def test_syntactic_words_and_other_tags_are_read_on_request(tmp_path: Path) -> None:
    """ "vámonos" is "vamos nos"."""
    lines = [
        "1-2 vámonos _ _ _ _ _ _ _ _",
        "1 vamos ir VERB VMM Mood=Imp 0 root _ _",
        "2 nos yo PRON PP Case=Acc 1 obj _ _",
    ]
    file = tmp_path / "x.conllu"
    file.write_text("\n".join(line.replace(" ", "\t") for line in lines) + "\n\n", encoding="utf-8")
    [fused] = conllu_rows(file, "es", ReadOptions())
    [split] = conllu_rows(file, "es", ReadOptions(words="syntactic"))
    assert fused == {"tokens": ["vámonos"], "pos_tags": ["VERB"], "xpos_tags": ["VMM"], "feats": ["Mood=Imp"]}
    assert split == {
        "tokens": ["vamos", "nos"],
        "pos_tags": ["VERB", "PRON"],
        "xpos_tags": ["VMM", "PP"],
        "feats": ["Mood=Imp", "Case=Acc"],
    }
