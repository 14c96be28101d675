"""Import the model's class beside a download, so that a missing package is told early."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ..core.errors import EasiError
from ..core.events import DataProgress, Emit, Event
from ..core.log_lines import telling_line
from ..engine.processes.supervisor import Handle, start
from .context import RunContext

GRACE = 2.0  # seconds between SIGTERM and SIGKILL
FAILED = re.compile(r"\b(?:ModuleNotFound|Import)Error: (?:No module named '([^']*)')?")


class _CannotImport(Exception):
    """Leaves the download; an EasiError there would be taken for a failed download."""


@contextmanager
def import_probe(context: RunContext, emit: Emit) -> Iterator[Emit]:
    """Yield what a download is to emit to; the class is imported while bytes are missing.

    Nothing is started if all data are on disk. The process sees no GPU, writes to the log only, and
    ends with the block at the latest: after that the workers import the class themselves.

    Raises:
        EasiError: The class cannot be imported.
    """
    process: Handle | None = None

    def check() -> None:
        # Other errors prove nothing: the process has no GPU.
        if process is not None and process.poll():
            line = telling_line(process.outcome().log_tail)
            if FAILED.search(line):
                raise _CannotImport(line)

    with ExitStack() as started:

        def watched(event: Event) -> None:
            nonlocal process
            emit(event)
            if isinstance(event, DataProgress):
                check()
                if process is None and event.done != event.total and not context.cfg.smoke:
                    job = context.backend.import_job(context.cfg, context.model)
                    process = started.enter_context(start(job, context.log, grace=GRACE))

        try:
            yield watched
            check()
        except _CannotImport as error:
            raise _refusal(context, str(error)) from None


def _refusal(context: RunContext, line: str) -> EasiError:
    found = FAILED.search(line)
    module = found[1] if found else None
    if module is None:
        return EasiError(
            f"{context.model.cls} cannot be imported: {line}", hint=f"see {context.log}"
        )
    return EasiError(
        f"{context.model.cls} imports {module}, and no such module is installed",
        hint=f"install the package that has it: python -m pip install {module.partition('.')[0]} "
        f"(if that is its name; who imports it: {context.log})",
    )
