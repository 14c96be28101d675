"""Which arguments a class of a backend takes by name, read from its file without importing it."""

from __future__ import annotations

from .catalog import Package
from .sources import lineage, signature


def parameters(package: Package, class_path: str) -> frozenset[str]:
    """The names that ``__init__`` of ``module.Class`` takes: its own, and its base's where it hands ``**kwargs`` on.

    Bases are followed inside the class's own package. Empty for a class whose file is not found.
    """
    return signature(lineage(package, class_path)).names
