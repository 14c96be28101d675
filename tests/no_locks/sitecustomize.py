"""For tests only: on PYTHONPATH it disables file locks below a folder.

EASI_TEST_NO_LOCKS names the folder. EASI_TEST_ERRNO is the error that locking raises there
("ENOSYS" as on Lustre without ``-o flock``, "ENOLCK" as on NFS without its lock daemon).
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from typing import Any

BELOW = os.environ["EASI_TEST_NO_LOCKS"]
ERRNO = getattr(errno, os.environ.get("EASI_TEST_ERRNO", "ENOSYS"))


def refusing(lock: Callable[..., Any]) -> Callable[..., Any]:
    def refused(file: Any, *args: Any) -> Any:
        descriptor = file if isinstance(file, int) else file.fileno()
        # Every process starts with this: nothing is imported for it.
        if os.readlink(f"/proc/self/fd/{descriptor}").startswith(BELOW):  # noqa: PTH115
            raise OSError(ERRNO, os.strerror(ERRNO))
        return lock(file, *args)

    return refused


fcntl.flock, fcntl.lockf = refusing(fcntl.flock), refusing(fcntl.lockf)
