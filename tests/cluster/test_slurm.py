"""``--nodes`` inside an allocation and ``--slurm`` from outside, on a Slurm of two nodes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from program import PROGRAM, User, wait_until
from test_join import COMMON, MODELS, answers_by, classes, is_complete, run_of
from two_node_slurm import slurm

pytestmark = [pytest.mark.e2e, pytest.mark.cluster, pytest.mark.slow]
OPTIONS = (*COMMON, *MODELS["vlmevalkit"], "--device", "cpu", "--nodes", "2")
# One task on each machine.
ARRAY = ("--slurm", "--time=10 --cpus-per-task=8")


def test_a_machine_that_slurm_loses_comes_back_alone(tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    with slurm(tmp_path) as cluster:
        here, there = cluster.machines
        user = User(tmp_path / "user", secrets=False, machine=here.words)
        output = user.root / "out"
        variables = {**classes(user, slow), **cluster.variables}
        with user.start(*OPTIONS, *ARRAY, "--output-dir", output, **variables) as head:
            wait_until(lambda: "nodes at work" in head.out, 120, head)
            run = run_of(output)
            wait_until(lambda: answers_by(run, "n1") and answers_by(run, "n2"), 300, head)
            there.kill()
            wait_until(lambda: "(nodeb) is gone" in head.out, 10, head)
            cluster.start_node(there)
            wait_until(lambda: "node n3 (nodeb) joined" in head.out, 200, head)
            slow.unlink()
            head.wait(200)
            assert head.code == 0, head.said
        assert is_complete(run)
        wait_until(lambda: not cluster.jobs(), 30)


def test_the_job_is_cancelled_with_its_head_and_the_same_command_goes_on(tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    with slurm(tmp_path) as cluster:
        user = User(tmp_path / "user", secrets=False, machine=cluster.machines[0].words)
        output = user.root / "out"
        variables = {**classes(user, slow), **cluster.variables}
        options = (*OPTIONS, "--output-dir", output)
        bad = user.run(*options, "--slurm", "--partition=none", seconds=60, **variables)
        assert bad.code == 2 and "invalid partition" in bad.err, bad.said
        with user.start(*options, *ARRAY, **variables) as head:
            wait_until(lambda: "nodes at work" in head.out, 120, head)
            run = run_of(output)
            wait_until(lambda: answers_by(run, "n1"), 300, head)
            head.process.kill()
            wait_until(lambda: not cluster.jobs(), 40)
        kept = len(run.answers)
        assert kept
        slow.unlink()
        again = user.run(*options, *ARRAY, seconds=300, **variables)
        assert again.code == 0, again.said
        assert is_complete(run)


def test_one_step_has_all_machines_of_an_allocation(tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    with slurm(tmp_path) as cluster:
        user = User(tmp_path / "user", secrets=False, machine=cluster.machines[0].words)
        output = user.root / "out"
        variables = {**user.environment(), **classes(user, slow)}
        names = [name for name in variables if name.startswith(("EASI", "HF", "XDG", "HOME"))]
        exports = "".join(f"export {name}={variables[name]}\n" for name in (*names, "PYTHONPATH"))
        words = " ".join([sys.executable, str(PROGRAM), *OPTIONS, "--output-dir", str(output)])
        script, log = user.root / "job.sh", user.root / "job.log"
        script.write_text(f"#!/bin/bash\n{exports}{words}\necho ended with $?\n")
        told = cluster.ask(
            *("sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=8"),
            *(f"--output={log}", "--time=10", str(script)),
        )
        assert told.strip().isdecimal()
        wait_until(lambda: list(output.glob("runs/*/*/journal/n*")), 300)
        run = run_of(output)
        wait_until(lambda: answers_by(run, "n1") and answers_by(run, "n2"), 300)
        slow.unlink()
        wait_until(lambda: "ended with" in log.read_text(), 200)
        assert "ended with 0" in log.read_text(), log.read_text()
        assert is_complete(run)
