"""The key-value store that all workers of a launch reach: torch's TCPStore, or memory for a worker that is alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from ..errors import EasiError

if TYPE_CHECKING:
    from torch.distributed import TCPStore


class Store(Protocol):
    """The five operations the queue needs, each atomic and never waiting for a key to appear."""

    def add(self, key: str, amount: int) -> int: ...

    def set(self, key: str, value: str) -> None: ...

    def create(self, key: str, value: str) -> str:
        """Set a key that is not there yet; returns the value that is there now. ``value`` must not be empty."""
        ...

    def get(self, key: str) -> str | None: ...

    def get_all(self, keys: Sequence[str]) -> list[str | None]:
        """Several at once; cheapest if all exist."""
        ...


class LocalStore:
    """The store of a worker that is alone, and of threads in one process."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, key: str, amount: int) -> int:
        with self._lock:
            number = int(self._values.get(key, "0")) + amount
            self._values[key] = str(number)
            return number

    def set(self, key: str, value: str) -> None:
        with self._lock:
            self._values[key] = value

    def create(self, key: str, value: str) -> str:
        with self._lock:
            return self._values.setdefault(key, value)

    def get(self, key: str) -> str | None:
        with self._lock:
            return self._values.get(key)

    def get_all(self, keys: Sequence[str]) -> list[str | None]:
        with self._lock:
            return [self._values.get(key) for key in keys]


class TorchStore:
    """A TCPStore; every key carries ``prefix``, so that launches that share a store do not meet."""

    def __init__(self, store: TCPStore, prefix: str = "easi") -> None:
        self._store, self._prefix = store, prefix

    @property
    def address(self) -> str:
        return f"{self._store.host}:{self._store.port}"

    def with_prefix(self, prefix: str) -> TorchStore:
        return TorchStore(self._store, prefix)

    def add(self, key: str, amount: int) -> int:
        return self._store.add(self._name(key), amount)

    def set(self, key: str, value: str) -> None:
        self._store.set(self._name(key), value)

    def create(self, key: str, value: str) -> str:
        return self._store.compare_set(self._name(key), "", value).decode()

    def get(self, key: str) -> str | None:
        # get() alone would block until the key appears
        return (
            self._store.get(self._name(key)).decode()
            if self._store.check([self._name(key)])
            else None
        )

    def get_all(self, keys: Sequence[str]) -> list[str | None]:
        if not keys:
            return []
        names = [self._name(key) for key in keys]
        if self._store.check(names):
            return [value.decode() for value in self._store.multi_get(names)]
        there = [name for name in names if self._store.check([name])]
        values = dict(zip(there, self._store.multi_get(there) if there else (), strict=True))
        return [values[name].decode() if name in values else None for name in names]

    def _name(self, key: str) -> str:
        return f"{self._prefix}/{key}"


def connect(address: str, timeout: float = 60.0) -> TorchStore:
    """A client of the store at ``host:port``. Raises EasiError if nothing answers there."""
    from torch.distributed import DistError, TCPStore

    host, _, port = address.rpartition(":")
    try:
        return TorchStore(
            TCPStore(
                host.strip("[]"),
                int(port),
                is_master=False,
                wait_for_workers=False,
                timeout=timedelta(seconds=timeout),
            )
        )
    except (DistError, ValueError, RuntimeError) as error:
        raise EasiError(
            f"no work queue at {address}", hint="the launcher ended; start the same command again"
        ) from error
