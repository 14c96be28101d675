"""Check the number of questions and the content of the data against the benchmark registry."""

from __future__ import annotations

from collections.abc import Mapping

from ..benchmarks import Source, TsvData

COUNT = "not the benchmark: {total} questions instead of {questions}"
COUNT_UNKNOWN = "the number of questions of this benchmark is not known"
OTHER = "its data differ from the benchmark's (MD5 {md5})"
NAMED = (
    "its data are {name}; delete the table in --dataset-dir, and the same command scores again "
    "with the present one"
)
UNRECORDED = "the version of its data was not recorded"
REHEARSED = "made-up questions (rehearsal)"


def is_other_count(source: Source, total: int | None) -> bool:
    """Return whether ``total`` differs from the benchmark's number of questions.

    False if either number is unknown.
    """
    return total is not None and source.questions is not None and total != source.questions


def count_note(source: Source, total: int | None) -> str:
    """Return a note about the number of questions, "" if it is the benchmark's."""
    if source.questions is None:
        return COUNT_UNKNOWN
    return (
        COUNT.format(total=total, questions=source.questions)
        if is_other_count(source, total)
        else ""
    )


def content_note(source: Source, recorded: object) -> str:
    """Return a note about the content of the data.

    The note is "" if the content is the expected one, or if the registry has nothing to compare it
    with.

    Args:
        source: The benchmark as the backend knows it.
        recorded: The value of ``data`` in the benchmark's settings.
    """
    if not isinstance(recorded, Mapping):
        return UNRECORDED
    md5 = recorded.get("md5")
    if not isinstance(source.data, TsvData) or md5 is None:
        return ""
    known = next((content for content in source.data.contents if content.md5 == md5), None)
    if known is None:
        return OTHER.format(md5=md5)
    return "" if known.expected else NAMED.format(name=known.name)
