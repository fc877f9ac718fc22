"""SQuAD's nested form: articles with paragraphs, paragraphs with questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunexfer.errors import DataError
from tunexfer.tasks.kinds.base import Row


def squad_rows(article: Mapping[str, Any], place: str) -> Iterator[Row]:
    """Yield `id`, `title`, `context`, `question` and `answers` of each question of an article, as the hub's sets do.

    An impossible question of version 2.0 has no answers; what looks like one, `plausible_answers`, is left aside.

    raises: DataError, beginning with the place
    """
    try:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                answers = [] if question.get("is_impossible") else question["answers"]
                yield {
                    "id": question.get("id"),
                    "title": article.get("title"),
                    "context": paragraph["context"],
                    "question": question["question"],
                    "answers": answers,
                }
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{place}: not an article in SQuAD's form, {type(error).__name__}: {error}.") from error
