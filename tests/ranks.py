"""The workers of a run as the processes that they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from easi_eval.engine.processes import guard


def _variables(pid: int) -> dict[str, str]:
    """The environment with which a process was started; empty if it is gone."""
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return {name: value for name, _, value in (line.partition("=") for line in text.split("\0"))}


def workers_below(pids: Iterable[int], module: str) -> dict[tuple[str, str], set[str]]:
    """The workers below each rank, by launcher and rank; a rank is a child of the launcher."""
    parents = guard.process_table()
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for pid in pids:
        rank, parent = _variables(pid).get("RANK"), parents.get(pid, 0)
        if rank and module.encode() in guard.command_line(parent):
            below = (_variables(each).get("EASI_WORKER", "") for each in guard.descendants(pid))
            found[str(parent), rank] |= {worker for worker in below if worker}
    return found
