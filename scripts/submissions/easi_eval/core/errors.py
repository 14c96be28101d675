"""The exceptions that are shown to users, and the exit codes of the program."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

# A full disk, an exhausted quota, a limit on file size: the remedy is the same, to free some space.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LONGEST_CHAIN = 10  # causes of an exception that are followed


class ExitCode(IntEnum):
    """The program's exit status; ``scripts/docs/reference.md`` documents the same ones."""

    COMPLETE = 0  # every requested benchmark is complete, or ``--limit`` was done as asked
    INCOMPLETE = 1  # at least one requested benchmark is not
    REFUSED = 2  # nothing was started
    NOT_SENT = 3  # complete, but the submission did not go through
    CANNOT_TELL = 4  # ``--max-drop``: within the error, or the runs are not comparable
    INTERRUPTED = 130  # Ctrl-C or SIGTERM


class EasiError(Exception):
    """An error the user can act on: one line with the problem and one with the remedy.

    Any other exception that reaches the top is a bug in this program.

    Attributes:
        message: What is wrong.
        hint: What to do about it.
        code: Exit code of the program.
    """

    def __init__(self, message: str, hint: str = "", code: ExitCode = ExitCode.REFUSED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


@dataclass
class Refusals:
    """Collects the reasons that prevent a run.

    A run ends at the first one. With ``collect``, as in a dry run, all of them are collected so
    that they can be shown together.
    """

    collect: bool = False
    found: list[EasiError] = field(default_factory=list)

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Record an EasiError raised inside the block if refusals are collected, else re-raise it.

        An error with a message that was recorded before is not recorded again.
        """
        try:
            yield
        except EasiError as error:
            if not self.collect:
                raise
            if all(error.message != known.message for known in self.found):
                self.found.append(error)


class Unreachable(EasiError):
    """The hub gives no answer, or none that a hub would give."""


class ServersGone(EasiError):
    """No server of ``--base-url`` answers questions any more."""


class NoRoom(EasiError):
    """The data to be written does not fit on the disk; raised before anything is written."""


class DiskFull(EasiError):
    """A write failed because the disk is full.

    Files written before are complete and stay, and the same command continues from there.
    """

    def __init__(self, message: str, kept: str = "existing results are kept") -> None:
        super().__init__(
            message,
            f"free some space; {kept}, and the same command resumes",
            ExitCode.INCOMPLETE,
        )


def says_nothing(error: BaseException) -> bool:
    """Whether an exception's text alone does not explain it.

    That is so for a bare ``assert``, for ``raise NotImplementedError`` and for the key of a
    KeyError.
    """
    return not str(error).strip() or isinstance(error, KeyError)


def worded(error: BaseException) -> str:
    """Return the exception as "Type: text".

    If the text explains nothing, the place is added: "AssertionError: no text, at model.py:12 in
    forward".
    """
    text = str(error).strip()
    place, step = "", error.__traceback__
    # The deepest frame is where it was raised.
    while says_nothing(error) and step is not None:
        code = step.tb_frame.f_code
        place, step = (
            f", at {Path(code.co_filename).name}:{step.tb_lineno} in {code.co_name}",
            step.tb_next,
        )
    return f"{type(error).__name__}: {text or 'no text'}{place}"


def is_full(error: BaseException | None) -> bool:
    """Whether this exception, or one in its chain of causes, says that a disk is full."""
    for _ in range(LONGEST_CHAIN):
        if error is None or (isinstance(error, OSError) and error.errno in FULL):
            break
        error = error.__cause__ or error.__context__
    return isinstance(error, OSError) and error.errno in FULL
