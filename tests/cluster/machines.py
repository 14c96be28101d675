"""Two machines on this one: network namespaces that are joined by one link.

Each has its own host name, loopback and address. Nothing is installed or left on the system.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

NEEDED = ("ip", "nsenter", "unshare")


@dataclass(frozen=True)
class Machine:
    """A namespace; ``words`` in front of a command run it there."""

    name: str
    address: str
    namespace: str
    hosts: Path

    @property
    def words(self) -> tuple[str, ...]:
        # Not `ip netns exec`: it mounts /sys anew, without the control groups that slurmd needs.
        return (
            "nsenter",
            f"--net=/run/netns/{self.namespace}",
            "unshare",
            "--uts",
            "--mount",
            "sh",
            "-c",
            f'hostname {self.name}; mount --bind {self.hosts} /etc/hosts; exec "$@"',
            "sh",
        )

    @property
    def link(self) -> str:
        return f"v{self.namespace}"

    def set_link(self, state: str) -> None:
        """``up`` or ``down``: a cable that is pulled sends no word."""
        _ip("-n", self.namespace, "link", "set", self.link, state)

    def pids(self) -> list[int]:
        told = _ip("netns", "pids", self.namespace)
        return [int(pid) for pid in told.split()]

    def kill(self) -> None:
        """The loss of the machine: all processes at once, without a word."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def why_impossible() -> str:
    """Why this machine cannot have namespaces; empty if it can."""
    if lacking := [name for name in NEEDED if shutil.which(name) is None]:
        return f"{', '.join(lacking)} not installed (tests/ci_packages.sh)"
    tried = subprocess.run(
        ["unshare", "--net", "--uts", "--mount", "true"], capture_output=True, text=True
    )
    return f"no right to make namespaces: {tried.stderr.strip()}" if tried.returncode else ""


@contextmanager
def two_machines(folder: Path) -> Iterator[tuple[Machine, Machine]]:
    """``nodea`` (10.77.0.1) and ``nodeb`` (10.77.0.2); skips the test where that is impossible.

    In continuous integration it must be possible.
    """
    if reason := why_impossible():
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost\n10.77.0.1 nodea\n10.77.0.2 nodeb\n")
    mark = f"{os.getpid() % 10_000}"
    machines = [
        Machine(f"node{letter}", f"10.77.0.{number}", f"e{letter}{mark}", hosts)
        for number, letter in enumerate("ab", start=1)
    ]
    try:
        for machine in machines:
            _ip("netns", "add", machine.namespace)
        first, second = machines
        _ip(
            *("link", "add", first.link, "netns", first.namespace, "type", "veth"),
            *("peer", "name", second.link, "netns", second.namespace),
        )
        for machine in machines:
            _ip(
                "-n", machine.namespace, "addr", "add", f"{machine.address}/24", "dev", machine.link
            )
            _ip("-n", machine.namespace, "link", "set", "lo", "up")
            machine.set_link("up")
        yield first, second
    finally:
        for machine in machines:
            with suppress(subprocess.CalledProcessError):
                machine.kill()
                _ip("netns", "del", machine.namespace)
