"""What Slurm is asked for, and where the secret of a run is, on a machine without Slurm."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from easi_eval.cluster import slurm
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.run.nodes_of_run import joining_secret, secret_file

CFG = {"model": "org/a model", "nproc": 2, "nodes": 3}
ADDRESS = "node7:41235"


def words(given: str = "", needs_gpu: bool = True) -> list[str]:
    cfg = RunConfig(**CFG, slurm=given)
    return slurm.sbatch_words(cfg, ADDRESS, Path("/logs"), needs_gpu)


def test_an_array_has_a_task_for_each_machine_that_is_requeued_and_warned_alone() -> None:
    said = words("--partition=gpu --comment='two words'")
    assert said[:2] == ["sbatch", "--parsable"]
    assert {
        *("--array=0-2", "--nodes=1", "--ntasks=1", "--requeue", "--open-mode=append"),
        *(
            "--signal=B:USR2@120",
            "--gres=gpu:2",
            "--cpus-per-task=8",
            "--output=/logs/slurm-%a.log",
        ),
        *("--partition=gpu", "--comment=two words", "--job-name=easi-org-a-model"),
    } < set(said)
    at = said.index("/logs/node.sbatch")
    assert said[at + 2 : at + 7] == [str(slurm.PROGRAM), "--join", ADDRESS, "--nproc", "2"]


def test_what_the_user_asks_for_stands(tmp_path: Path) -> None:
    script = tmp_path / "site.sbatch"
    script.write_text('#!/bin/bash\n#SBATCH --gpus-per-node=4 -c 3\nexec "$@"\n')
    for given in ("--gres=gpu:a100:2 --exclusive", "-G 2 --cpus-per-gpu=4", f"@{script}"):
        said = words(given)
        assert not {"--gres=gpu:2", "--cpus-per-task=8"} & set(said), said
    assert str(script) in words(f"@{script}")
    assert "--signal=B:USR2@120" in words(f"@{script}")
    script.write_text('#!/bin/bash\n#SBATCH --signal=B:USR2@300\nexec "$@"\n')
    assert not [word for word in words(f"@{script}") if word.startswith("--signal")]
    assert not [word for word in words(needs_gpu=False) if word.startswith("--gres")]


def test_a_script_that_starts_no_node_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "site.sbatch"
    script.write_text("#!/bin/bash\nmodule load cuda\n")
    with pytest.raises(EasiError, match='does not contain "\\$@"'):
        words(f"@{script}")


@pytest.mark.parametrize(
    ("told", "nodes", "cpus"), [("64(x2)", 2, "64"), ("64(x3),32", 3, "32"), ("", 3, "")]
)
def test_one_step_has_a_node_on_each_machine_and_outlives_one(
    told: str, nodes: int, cpus: str
) -> None:
    environ = {"SLURM_JOB_NUM_NODES": "2" if nodes == 2 else "5", "SLURM_JOB_CPUS_PER_NODE": told}
    said = slurm.srun_job(RunConfig(**CFG), ADDRESS, environ).argv
    assert {
        *("srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"),
        *("--kill-on-bad-exit=0", "--no-kill", "--cpu-bind=none"),
    } < set(said)
    assert [word for word in said if "cpus-per" in word] == [f"--cpus-per-task={cpus}"] * bool(cpus)


def test_an_allocation_of_one_machine_is_none() -> None:
    assert slurm.in_allocation({"SLURM_JOB_NUM_NODES": "2"})
    assert not slurm.in_allocation({"SLURM_JOB_NUM_NODES": "1"}) and not slurm.in_allocation({})


def test_a_dry_run_shows_the_job_where_there_is_no_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    lines = slurm.check(RunConfig(**CFG, slurm="--time=4", dry_run=True), needs_gpu=True)
    assert "sbatch" in shlex.split(lines[0]) and "HOST:PORT" in lines[0]
    assert lines[1:] == ['LOGS/node.sbatch: #!/bin/bash exec "$@"']
    with pytest.raises(EasiError, match="no sbatch on this machine"):
        slurm.check(RunConfig(**CFG, slurm="--time=4"), needs_gpu=True)


@pytest.mark.parametrize("dry_run", [True, False])
def test_what_slurm_would_refuse_is_refused(
    dry_run: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked with the whole command, and nothing is submitted."""
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(
        '#!/bin/sh\n[ "$1" = --test-only ] && [ "$2" = --parsable ] && exit\n'
        "echo submitted >&2; exit 3\n"
    )
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    cfg = RunConfig(**CFG, slurm="--time=4", dry_run=dry_run)
    assert slurm.check(cfg, needs_gpu=True)
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2; exit 1\n")
    with pytest.raises(EasiError, match="would refuse the job: sbatch: error: invalid partition"):
        slurm.check(cfg, needs_gpu=True)


def test_the_secret_is_that_of_the_variable_or_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("EASI_JOIN_SECRET", raising=False)
    with pytest.raises(EasiError, match="the secret of the run at node7:41235 is not here"):
        joining_secret("node7", 41235)
    path = secret_file("node7", 41235)
    path.parent.mkdir(parents=True)
    path.write_text("of the file\n")
    assert joining_secret("node7", 41235) == "of the file"
    monkeypatch.setenv("EASI_JOIN_SECRET", "of the variable")
    assert joining_secret("node7", 41235) == "of the variable"


@pytest.mark.parametrize("code", [0, 1])
def test_why_a_job_is_not_requeued_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$* is refused"\nexit {code}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    slurm.requeue("4711_2", tmp_path / "log")
    said = "job 4711_2 is not requeued: requeue 4711_2 is refused\n"
    assert capfd.readouterr().out == (said if code else "")
