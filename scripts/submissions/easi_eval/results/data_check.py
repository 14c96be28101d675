"""Whether what was asked is the benchmark: the number of its questions and the content of its data, held against its entry."""

from __future__ import annotations

from collections.abc import Mapping

from ..benchmarks import Source, TsvData

COUNT = "not the benchmark: {total} questions, it has {questions}"
COUNT_UNKNOWN = "how many questions this benchmark has is not known here"
OTHER = "its data are of another content than the benchmark's (MD5 {md5})"
NAMED = "its data are {name}"
UNRECORDED = "which content its data had was not recorded"
REHEARSED = "made-up questions of the rehearsal"


def other_count(source: Source, total: int | None) -> bool:
    """Whether so many questions are not the benchmark. A number that is not known is no reason."""
    return total is not None and source.questions is not None and total != source.questions


def of_count(source: Source, total: int | None) -> str:
    """What is to be said of the number of questions; "" if it is the benchmark's."""
    if source.questions is None:
        return COUNT_UNKNOWN
    return (
        COUNT.format(total=total, questions=source.questions) if other_count(source, total) else ""
    )


def of_content(source: Source, recorded: object) -> str:
    """What is to be said of the content; "" if it is the expected one, or the entry knows none to compare with.

    ``recorded``: what a benchmark's settings have under ``data``.
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
