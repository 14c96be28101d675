"""Locks between processes, also on a file system that has none (Lustre mounted without ``-o flock``)."""

from __future__ import annotations

import errno
import fcntl
import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
SOFT = ".soft"


@functools.cache
def lacks_locks(folder: Path) -> bool:
    """Whether no file can be locked in ``folder``, or in what is there of it: tried on one. Where nothing can be written nobody locks."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in NO_LOCKS
    return False


def file_lock(path: str | Path) -> BaseFileLock:
    """Held by one process at a time, in a ``with`` block; others wait. What a process left that was killed is taken over.

    Without locks a file stands for it while it is held. Its name is another: a real lock leaves its file behind, which would count as held.
    """
    from filelock import FileLock, SoftFileLock

    return (
        SoftFileLock(f"{path}{SOFT}")
        if lacks_locks(Path(path).absolute().parent)
        else FileLock(path)
    )


def unlocked(places: Mapping[str, Path]) -> list[str]:
    """What to say of the ``places``, by what they are, whose file systems have no locks; one inside another is not named."""
    without = {
        what: folder.absolute() for what, folder in places.items() if lacks_locks(folder.absolute())
    }
    named = [
        f"{what} {folder}"
        for what, folder in without.items()
        if without.keys().isdisjoint(
            other for other, above in places.items() if above.absolute() in folder.parents
        )
    ]
    if not named:
        return []
    return [
        f"the file system of {' and '.join(named)} has no file locks: other files stand for them, which one machine's processes heed; "
        "use these folders from one machine at a time"
    ]
