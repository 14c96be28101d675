"""A Slurm of two nodes in two network namespaces, with GPUs that are character devices.

Only what the Debian packages slurm-wlm and munge hold is used; everything is ended by its process
id.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from machines import Machine, two_machines

NEEDED = ("slurmctld", "slurmd", "srun", "sbatch", "munged")
GPUS = 4
CONF = """\
ClusterName=easi
SlurmctldHost=nodea(10.77.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge}/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmctldPort=16817
SlurmdPort=16818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
ReturnToService=2
SlurmdTimeout=60
MessageTimeout=30
KillWait=30
MpiDefault=none
SlurmdParameters=config_overrides
NodeName=nodea NodeAddr=10.77.0.1 CPUs=8 RealMemory=8000 Gres=gpu:{gpus}
NodeName=nodeb NodeAddr=10.77.0.2 CPUs=8 RealMemory=8000 Gres=gpu:{gpus}
PartitionName=main Nodes=nodea,nodeb Default=YES State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """The controller runs on the first machine, a node on each."""

    folder: Path
    machines: tuple[Machine, Machine]

    @property
    def variables(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def ask(self, *words: str) -> str:
        """What a command prints. An unreachable node would make some of them wait for ever."""
        told = subprocess.run(
            [*self.machines[0].words, *words],
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            timeout=30,
        )
        return told.stdout

    def start_node(self, machine: Machine) -> None:
        self._start(machine, "slurmd", "-D", "-N", machine.name)

    def wait_until_idle(self) -> None:
        """Until both machines can have a job."""
        until = time.monotonic() + 90
        while self.ask("sinfo", "--noheader", "--format=%T %D").split() != ["idle", "2"]:
            assert time.monotonic() < until, self.ask("sinfo") + self.ask("squeue")
            time.sleep(0.5)

    def bring_limit_near(self, job: str) -> None:
        """Give a running job 90 to 150 seconds more; Slurm looks at limits every 30."""
        passed = self.ask("squeue", "--noheader", f"--jobs={job}", "--format=%M").strip()
        minutes, seconds = map(int, passed.split(":")[-2:])
        limit = minutes + 2 + (seconds >= 30)
        self.ask("scontrol", "update", f"JobId={job}", f"TimeLimit={limit}")

    def jobs(self) -> list[str]:
        return self.ask("squeue", "--noheader", "--array", "--format=%i %T %r %N").splitlines()

    def _start(self, machine: Machine, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{words[0]}.{machine.name}.out").open("ab") as out:
            return subprocess.Popen(
                [*machine.words, *words],
                env={**os.environ, **self.variables},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """A Slurm that is up; skips the test where the packages are missing, but not in CI."""
    if lacking := [name for name in NEEDED if shutil.which(name) is None]:
        reason = f"{', '.join(lacking)} not installed (tests/ci_packages.sh)"
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    with two_machines(folder) as machines:
        for name in ("state", "dev"):
            (folder / name).mkdir()
        for number in range(GPUS):
            subprocess.run(
                ["mknod", folder / "dev" / f"nvidia{number}", "c", "195", str(number)], check=True
            )
        (folder / "cgroup.conf").touch()
        devices = f"{folder}/dev/nvidia[0-{GPUS - 1}]"
        (folder / "gres.conf").write_text(f"NodeName=nodea,nodeb Name=gpu File={devices}\n")
        made = Slurm(folder, machines)
        with _munge() as munge:
            (folder / "slurm.conf").write_text(CONF.format(folder=folder, gpus=GPUS, munge=munge))
            try:
                made._start(machines[0], "slurmctld", "-D")
                for machine in machines:
                    made.start_node(machine)
                made.wait_until_idle()
                yield made
            finally:
                for machine in machines:
                    machine.kill()


@contextmanager
def _munge() -> Iterator[Path]:
    """The service by which Slurm knows users, its own one; the folder has its socket."""
    # Not in the test's folder: the path of a socket may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="munge-") as name:
        folder = Path(name)
        key = folder / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        words = [f"--{option}={folder / file}" for option, file in files.items()]
        with subprocess.Popen(
            ["munged", "--foreground", "--force", f"--key-file={key}", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as service:
            try:
                until = time.monotonic() + 60
                while subprocess.run(
                    ["munge", "-n", f"--socket={folder}/socket"], capture_output=True
                ).returncode:
                    assert time.monotonic() < until and service.poll() is None
                    time.sleep(0.1)
                yield folder
            finally:
                service.terminate()
