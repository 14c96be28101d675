"""The key-value store of a launch: torch's TCPStore, or memory where there is one worker only."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from ..core.errors import EasiError

if TYPE_CHECKING:
    from torch.distributed import TCPStore


class Store(Protocol):
    """The operations the queue needs; each is atomic and never waits for a key to appear."""

    def add(self, key: str, amount: int) -> int:
        """Add to a counter, which starts at 0, and return its new value."""
        ...

    def set(self, key: str, value: str) -> None:
        """Set a key, whether it exists or not."""
        ...

    def create(self, key: str, value: str) -> str:
        """Set a key if it does not exist, and return the value it has then.

        ``value`` must not be empty.
        """
        ...

    def get(self, key: str) -> str | None:
        """The value of a key, None if it does not exist."""
        ...

    def get_all(self, keys: Sequence[str]) -> list[str | None]:
        """The values of several keys; fastest if all exist."""
        ...


class LocalStore:
    """A store in memory, for a single worker or for threads of one process."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, key: str, amount: int) -> int:
        """See ``Store.add``."""
        with self._lock:
            number = int(self._values.get(key, "0")) + amount
            self._values[key] = str(number)
            return number

    def set(self, key: str, value: str) -> None:
        """See ``Store.set``."""
        with self._lock:
            self._values[key] = value

    def create(self, key: str, value: str) -> str:
        """See ``Store.create``."""
        with self._lock:
            return self._values.setdefault(key, value)

    def get(self, key: str) -> str | None:
        """See ``Store.get``."""
        with self._lock:
            return self._values.get(key)

    def get_all(self, keys: Sequence[str]) -> list[str | None]:
        """See ``Store.get_all``."""
        with self._lock:
            return [self._values.get(key) for key in keys]


class TorchStore:
    """A TCPStore; every key starts with ``prefix``, so that launches can share one store."""

    def __init__(self, store: TCPStore, prefix: str = "easi") -> None:
        self._store, self._prefix = store, prefix

    @property
    def address(self) -> str:
        """The store's ``host:port``."""
        return f"{self._store.host}:{self._store.port}"

    def with_prefix(self, prefix: str) -> TorchStore:
        """The same store with another prefix."""
        return TorchStore(self._store, prefix)

    def add(self, key: str, amount: int) -> int:
        """See ``Store.add``."""
        return self._store.add(self._name(key), amount)

    def set(self, key: str, value: str) -> None:
        """See ``Store.set``."""
        self._store.set(self._name(key), value)

    def create(self, key: str, value: str) -> str:
        """See ``Store.create``."""
        return self._store.compare_set(self._name(key), "", value).decode()

    def get(self, key: str) -> str | None:
        """See ``Store.get``."""
        # get() alone would block until the key appears
        return (
            self._store.get(self._name(key)).decode()
            if self._store.check([self._name(key)])
            else None
        )

    def get_all(self, keys: Sequence[str]) -> list[str | None]:
        """See ``Store.get_all``."""
        if not keys:
            return []
        names = [self._name(key) for key in keys]
        if self._store.check(names):
            return [value.decode() for value in self._get_present(names)]
        there = [name for name in names if self._store.check([name])]
        values = dict(zip(there, self._get_present(there) if there else (), strict=True))
        return [values[name].decode() if name in values else None for name in names]

    def _get_present(self, names: list[str]) -> list[bytes]:
        values: list[bytes] = self._store.multi_get(names)  # type: ignore[attr-defined]  # not in torch's stub
        return values

    def _name(self, key: str) -> str:
        return f"{self._prefix}/{key}"


def connect(address: str, timeout: float = 60.0) -> TorchStore:
    """A client of the store at ``host:port``; EasiError if there is none."""
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
