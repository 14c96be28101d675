"""``--nodes`` inside an allocation and ``--slurm`` from outside, on a Slurm of two nodes."""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from program import PROGRAM, Launch, Results, RunFolder, User, wait_until
from test_join import COMMON, MODELS, answers_by, classes, environments, is_complete, run_of
from two_node_slurm import Slurm, slurm

pytestmark = [pytest.mark.e2e, pytest.mark.cluster, pytest.mark.slow]
ONE = {name: (*COMMON, *model, "--device", "cpu") for name, model in MODELS.items()}
OPTIONS = (*ONE["vlmevalkit"], "--nodes", "2")
# One task on each machine.
ARRAY = ("--slurm", "--time=10 --cpus-per-task=8")
SCRIPT = """#!/bin/bash
#SBATCH --time=10 --cpus-per-task=8
export SITE=lab
exec "$@"
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def cluster(started: Slurm) -> Slurm:
    started.wait_until_idle()
    return started


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Results]:
    """The results of one machine without Slurm, by backend."""

    @functools.cache
    def results(backend: str) -> Results:
        root = tmp_path_factory.mktemp("alone")
        user, output, slow = User(root / "user", secrets=False), root / "out", root / "slow"
        variables = classes(user, slow)
        slow.unlink()
        launch = user.run(*ONE[backend], "--output-dir", output, **variables)
        assert launch.code == 0, launch.said
        return Results.keep(output, root / "kept")

    return results


def scores(results: Results) -> dict[tuple[str, str], dict[str, str]]:
    """The table without the seconds that it took."""
    return {key: {**line, "time": ""} for key, line in results.table.items()}


def at_work(head: Launch, output: Path) -> RunFolder:
    """The run, once two nodes have answered."""
    wait_until(lambda: list(output.glob("runs/*/*/journal/n*")), 300, head)
    run = run_of(output)
    wait_until(lambda: len({record["worker"] for record in run.answers}) > 1, 300, head)
    return run


def test_machines_are_drained_lost_and_started_again_alone(
    cluster: Slurm, alone: Callable[[str], Results], tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    here, there = cluster.machines
    user = User(tmp_path / "user", secrets=False, machine=here.words)
    output = user.root / "out"
    variables = {**classes(user, slow, seconds=5), **cluster.variables}
    script = user.root / "site.sbatch"
    script.write_text(SCRIPT)
    options = (*OPTIONS, "--slurm", f"@{script}", "--output-dir", output)
    with user.start(*options, **variables) as head:
        run = at_work(head, output)
        job = re.search(r"job (\d+): ", head.out)[1]
        wait_until(lambda: f"job {job}: 2 of 2 nodes at work" in head.out, 60, head)
        nodes, _ = environments(head.alive())
        assert nodes and all(node["SITE"] == "lab" for node in nodes)  # from the script
        cluster.bring_limit_near(f"{job}_0")
        wait_until(lambda: " left: its time limit is near" in head.out, 200, head)
        cluster.ask("scontrol", "update", f"JobId={job}_0", "TimeLimit=10")
        wait_until(lambda: re.search(r"node n3 \(node[ab]\) joined", head.out), 200, head)
        wait_until(lambda: len(cluster.jobs()) == 2, 100, head)
        there.kill()
        wait_until(lambda: re.search(r"\(nodeb\) is gone", head.out), 100, head)
        cluster.start_node(there)
        wait_until(lambda: "node n4 (nodeb) joined" in head.out, 200, head)
        slow.unlink()
        head.wait(400)
        assert head.code == 0, head.said
    assert head.out.count("(nodea) left") + head.out.count("(nodeb) left") == 1
    assert is_complete(run)
    assert scores(Results(output)) == scores(alone("vlmevalkit"))
    wait_until(lambda: not cluster.jobs(), 200)


def test_the_job_ends_with_its_head_and_the_same_command_goes_on(
    cluster: Slurm, alone: Callable[[str], Results], tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    user = User(tmp_path / "user", secrets=False, machine=cluster.machines[0].words)
    output = user.root / "out"
    variables = {**classes(user, slow), **cluster.variables}
    options = (*OPTIONS, "--output-dir", output)
    bad = user.run(*options, "--slurm", "--partition=none", seconds=200, **variables)
    assert bad.code == 2 and "invalid partition" in bad.err, bad.said
    # Ctrl-C while the job is pending; no task is started before its time.
    later = ("--slurm", "--time=10 --begin=now+1hour")
    with user.start(*options, *later, **variables) as head:
        wait_until(lambda: "0 of 2 nodes at work, 2 pending (BeginTime)" in head.out, 200, head)
        os.kill(head.process.pid, signal.SIGINT)
        head.wait(200)
        assert head.code == 130, head.said
        wait_until(lambda: not cluster.jobs(), 100)
    # Two nodes on one machine, and one that never comes.
    both = ("--nodes", "3", "--slurm", "--time=10 --cpus-per-task=4 --gres=gpu:2 --nodelist=nodea")
    with user.start(*options, *both, **variables) as head:
        run = at_work(head, output)
        wait_until(lambda: "2 of 3 nodes at work, 1 pending (" in head.out, 200, head)
        nodes, workers = environments(head.alive())
        assert sorted(each["CUDA_VISIBLE_DEVICES"] for each in nodes) == ["0,1", "2,3"]
        assert workers and not any("SLURM_PROCID" in each for each in workers)
        head.process.kill()
        wait_until(lambda: not cluster.jobs(), 200)
    kept = len(run.answers)
    assert kept
    cluster.wait_until_idle()
    with user.start(*options, *ARRAY, **variables) as head:
        wait_until(lambda: "nodes at work" in head.out and len(run.answers) > kept, 300, head)
        job = re.search(r"job (\d+): ", head.out)[1]
        cluster.ask("scancel", job)
        head.wait(300)
        assert head.code == 1 and f"Slurm has no job {job} any more" in head.out, head.said
    slow.unlink()
    cluster.wait_until_idle()
    again = user.run(*options, *both, seconds=500, **variables)
    assert again.code == 0, again.said
    assert is_complete(run)
    assert scores(Results(output)) == scores(alone("vlmevalkit"))


def test_one_step_has_all_machines_of_an_allocation(
    cluster: Slurm, alone: Callable[[str], Results], tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    user = User(tmp_path / "user", secrets=False, machine=cluster.machines[0].words)
    output = user.root / "out"
    variables = {**user.environment(), **classes(user, slow, seconds=5)}
    names = [name for name in variables if name.startswith(("EASI", "HF", "XDG", "HOME"))]
    exports = "".join(f"export {name}={variables[name]}\n" for name in (*names, "PYTHONPATH"))
    options = (*ONE["lmms-eval"], "--nodes", "2")
    words = " ".join([sys.executable, str(PROGRAM), *options, "--output-dir", str(output)])
    script, log = user.root / "job.sh", user.root / "job.log"
    script.write_text(f"#!/bin/bash\n{exports}exec {words}\n")
    told = cluster.ask(
        *("sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=8"),
        *("--gres=gpu:2", f"--output={log}", "--open-mode=append", "--requeue"),
        *("--time=10", "--signal=B:USR2@120", str(script)),
    )
    job = told.strip()
    assert job.isdecimal()
    wait_until(lambda: list(output.glob("runs/*/*/journal/n*")), 300)
    run = run_of(output)
    wait_until(lambda: answers_by(run, "n1") and answers_by(run, "n2"), 300)
    for machine in cluster.machines:
        (node,), _ = environments(machine.pids())
        assert node["CUDA_VISIBLE_DEVICES"] == "0,1"
    cluster.bring_limit_near(job)
    wait_until(lambda: f"the time limit is near: requeueing job {job}" in log.read_text(), 200)
    assert "finishing the current questions" in log.read_text()
    begun = {tuple(key) for record in run.records("lease") for key in record["keys"]}
    assert begun == {(record["benchmark"], record["item"]) for record in run.answers}
    slow.unlink()
    wait_until(lambda: any(" PENDING " in line for line in cluster.jobs()), 100)
    time.sleep(2)  # in the second in which it ended, its node refuses to start it again
    cluster.ask("scontrol", "update", f"JobId={job}", "TimeLimit=10", "StartTime=now")
    wait_until(lambda: not cluster.jobs(), 400)
    assert "ExitCode=0:0" in cluster.ask("scontrol", "show", "job", job), log.read_text()
    assert "answers are there and are not asked again" in log.read_text()
    assert is_complete(run)
    assert scores(Results(output)) == scores(alone("lmms-eval"))
