"""The only exception shown to people, and the exit codes of the program."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

# A full disk, a quota that is used up, and a limit on the size of files: free some space and go on.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LONGEST_CHAIN = 10  # of exceptions that led to one another


class ExitCode(IntEnum):
    """What the program's exit status says; the README documents the same five."""

    COMPLETE = 0  # every requested benchmark is complete, or ``--limit`` was done as asked
    INCOMPLETE = 1  # at least one requested benchmark is not
    REFUSED = 2  # nothing was started
    NOT_SENT = 3  # complete, but the submission did not go through
    INTERRUPTED = 130  # Ctrl-C or SIGTERM


class EasiError(Exception):
    """Something the user can act on: one line that says what is wrong and one that says what to do.

    Anything else that escapes is a bug in this program.
    """

    def __init__(self, message: str, hint: str = "", code: ExitCode = ExitCode.REFUSED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


@dataclass
class Refusals:
    """What refuses a run. A run ends at the first; a dry run goes on (``collect``), so that one look shows all of them."""

    collect: bool = False
    found: list[EasiError] = field(default_factory=list)

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Keep an EasiError raised inside instead of letting it out, where refusals are collected; one that was met before once."""
        try:
            yield
        except EasiError as error:
            if not self.collect:
                raise
            if all(error.message != known.message for known in self.found):
                self.found.append(error)


class NoRoom(EasiError):
    """What is to come does not fit on a disk, which is known before it is written."""


class DiskFull(EasiError):
    """A disk took no more. What lies on it is whole and stays, and the same command goes on from there."""

    def __init__(self, message: str, kept: str = "what is there is kept") -> None:
        super().__init__(
            message,
            f"free some space; {kept}, and the same command goes on where this one stopped",
            ExitCode.INCOMPLETE,
        )


def says_nothing(error: BaseException) -> bool:
    """Whether the text alone tells nobody what went wrong: ``assert``, ``raise NotImplementedError``, the key of a KeyError."""
    return not str(error).strip() or isinstance(error, KeyError)


def worded(error: BaseException) -> str:
    """ "Type: text"; where the text says nothing with the place, "AssertionError: no text, at model.py:12 in forward"."""
    text = str(error).strip()
    place, step = "", error.__traceback__
    while says_nothing(error) and step is not None:  # to the deepest frame
        code = step.tb_frame.f_code
        place, step = (
            f", at {Path(code.co_filename).name}:{step.tb_lineno} in {code.co_name}",
            step.tb_next,
        )
    return f"{type(error).__name__}: {text or 'no text'}{place}"


def is_full(error: BaseException | None) -> bool:
    """Whether this error, or one behind it, says that a disk took no more."""
    for _ in range(LONGEST_CHAIN):
        if error is None or (isinstance(error, OSError) and error.errno in FULL):
            break
        error = error.__cause__ or error.__context__
    return isinstance(error, OSError) and error.errno in FULL
