"""What the modules of ``benchmarks`` share: where files go, and how both layouts hold questions.

``datasets`` is the folder that holds ``<org>/<name>``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from easi_eval.benchmarks import LMMS_EVAL, VLMEVALKIT, by_key

from . import media
from .questions import LETTERS, Question

# Frames of the videos: fewer and more than the 32 that are used.
VIDEO_FRAMES = (40, 12, 33, 24, 18, 36)


def write_table(datasets: Path, key: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Write the TSV file from which VLMEvalKit reads the benchmark."""
    data: Any = by_key(key).source(VLMEVALKIT).data
    media.write_tsv(datasets / data.repo / data.tsv, rows)


def media_repo(datasets: Path, key: str) -> Path:
    """Return the repository of the pictures and videos that VLMEvalKit's table names."""
    data: Any = by_key(key).source(VLMEVALKIT).data
    return datasets / data.media_repo


def hub_repo(datasets: Path, key: str) -> Path:
    """Return the repository that lmms-eval's task loads."""
    data: Any = by_key(key).source(LMMS_EVAL).data
    return datasets / data.repo


def card(repo: Path, configs: Mapping[str, Mapping[str, str]]) -> None:
    """The README that tells the datasets library which file is which split of which config."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        lines += [
            line
            for split, file in splits.items()
            for line in (f"  - split: {split}", f"    path: {file}")
        ]
    lines += [
        "---",
        "",
        f"# {repo.name}",
        "",
        "Made-up data in the layout of the dataset of this name.",
        "",
    ]
    media.write(repo / "README.md", "\n".join(lines))


def pictures(question: Question) -> list[dict[str, Any] | None]:
    """The pictures as values of a parquet column."""
    return [media.image_value(media.picture(view)) for view in question.views]


def lettered_options(question: Question) -> list[str]:
    """Options with their letters, as in 'A. left'."""
    return question.lettered("{0}. {1}", "\n").split("\n")


def pictures_as_text(question: Question, kind: str = "PNG") -> str:
    """The pictures as base64: one plainly, several as a list in Python's notation."""
    encoded = [media.as_base64(media.picture(view, kind)) for view in question.views]
    return encoded[0] if len(encoded) == 1 else repr(encoded)


def letter_columns(question: Question, count: int) -> dict[str, str | None]:
    """One column per letter; the columns that a question does not need stay empty."""
    options: list[str | None] = [
        *question.options,
        *(None for _ in range(count - len(question.options))),
    ]
    return dict(zip(LETTERS, options, strict=False))
