"""Readers for the result files of both backends.

They are pure functions: they read files, return tables or scores, and raise EasiError for a file
that is missing or damaged.
"""

from __future__ import annotations

from .lmms_files import (
    find_lmms_outputs,
    lmms_samples,
    lmms_total,
    read_lmms_rows,
    read_lmms_scores,
)
from .rows import ROW_COLUMNS, summarise
from .vlmevalkit_files import (
    find_vlmevalkit_outputs,
    read_by_rules,
    read_vlmevalkit_rows,
    read_vlmevalkit_scores,
    row_cells,
    tsv_items,
    tsv_rows,
)

__all__ = [
    "ROW_COLUMNS",
    "find_lmms_outputs",
    "find_vlmevalkit_outputs",
    "lmms_samples",
    "lmms_total",
    "read_by_rules",
    "read_lmms_rows",
    "read_lmms_scores",
    "read_vlmevalkit_rows",
    "read_vlmevalkit_scores",
    "row_cells",
    "summarise",
    "tsv_items",
    "tsv_rows",
]
