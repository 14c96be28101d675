"""``--nodes`` inside an allocation and ``--slurm`` from outside, on a Slurm of two nodes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from program import PROGRAM, User, wait_until
from test_join import COMMON, KEYS, MODELS, answers_by, classes, run_of
from two_node_slurm import slurm

pytestmark = [pytest.mark.e2e, pytest.mark.cluster, pytest.mark.slow]


def test_an_array_job_has_one_node_per_task(tmp_path: Path) -> None:
    with slurm(tmp_path) as cluster:
        user = User(tmp_path / "user", secrets=False, machine=cluster.machines[0].words)
        output = user.root / "out"
        options = [*COMMON, *MODELS["vlmevalkit"], "--device", "cpu", "--nodes", "2"]
        options += ["--slurm", "--time=10 --cpus-per-task=8", "--output-dir", str(output)]
        with user.start(*options, **classes(user), **cluster.variables) as head:
            wait_until(lambda: "nodes at work" in head.out, 120, head)
            run = run_of(output)
            wait_until(lambda: answers_by(run, "n1") and answers_by(run, "n2"), 300, head)
            head.wait(90)
            assert head.code == 0, head.said
        keys = [(record["benchmark"], record["item"]) for record in run.answers]
        assert len(keys) == len(set(keys)) == sum(len(run.items(key)) for key in KEYS.split(","))
        wait_until(lambda: not cluster.jobs(), 30)


def test_one_step_has_all_nodes_of_an_allocation(tmp_path: Path) -> None:
    with slurm(tmp_path) as cluster:
        user = User(tmp_path / "user", secrets=False, machine=cluster.machines[0].words)
        output = user.root / "out"
        options = [*COMMON, *MODELS["vlmevalkit"], "--device", "cpu", "--nodes", "2"]
        options += ["--output-dir", str(output)]
        script = user.root / "job.sh"
        words = " ".join([sys.executable, str(PROGRAM), *options])
        variables = {**user.environment(), **classes(user)}
        names = [name for name in variables if name.startswith(("EASI", "HF", "XDG", "HOME"))]
        exports = "".join(f"export {name}={variables[name]}\n" for name in (*names, "PYTHONPATH"))
        script.write_text(f"#!/bin/bash\n{exports}exec {words}\n")
        told = cluster.ask(
            *("sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=4"),
            *(f"--output={user.root}/job.log", "--time=10", str(script)),
        )
        assert told.strip().isdecimal()
        log = user.root / "job.log"
        wait_until(lambda: not cluster.jobs(), 300)
        assert "error" not in log.read_text(), log.read_text()
        run = run_of(output)
        keys = [(record["benchmark"], record["item"]) for record in run.answers]
        assert len(keys) == len(set(keys)) == sum(len(run.items(key)) for key in KEYS.split(","))
        assert answers_by(run, "n1") and answers_by(run, "n2")
