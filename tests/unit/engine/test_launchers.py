from __future__ import annotations

import os
import shlex
import signal
import socket
import sys

import pytest

from easi_eval.backends.shared import launch_env
from easi_eval.engine.processes import launchers, supervisor
from easi_eval.engine.processes.jobs import Job, Outcome, Restarts, launcher_variables
from easi_eval.engine.processes.keeper import Place, worker_env
from easi_eval.engine.processes.worker_ends import describe

# As the ranks of `torchrun --nproc-per-node=2` (2.9.1) were seen to have it.
TORCHRUN = {
    "GROUP_RANK": "0",
    "GROUP_WORLD_SIZE": "1",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29777",
    "OMP_NUM_THREADS": "1",
    "RANK": "1",
    "ROLE_NAME": "default",
    "ROLE_RANK": "1",
    "ROLE_WORLD_SIZE": "2",
    "TORCHELASTIC_ERROR_FILE": "/x/error.json",
    "TORCHELASTIC_MAX_RESTARTS": "0",
    "TORCHELASTIC_RESTART_COUNT": "0",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
    "WORLD_SIZE": "2",
}
# ... and of `accelerate launch` with one process, which starts no agent.
ACCELERATE_ONE = {
    "ACCELERATE_DYNAMO_BACKEND": "NO",
    "ACCELERATE_MIXED_PRECISION": "no",
    "ACCELERATE_USE_CPU": "False",
    "OMP_NUM_THREADS": "1",
}
# ... and what srun, mpirun and the operators of clusters leave in a shell.
CLUSTERS = {
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "3",
    "SLURM_NTASKS": "8",
    "SLURM_NTASKS_PER_NODE": "8",
    "SLURM_STEP_NUM_TASKS": "8",
    "PMI_RANK": "3",
    "PMI_SIZE": "8",
    "PMIX_RANK": "3",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "8",
    "NODE_RANK": "1",
    "MV2_COMM_WORLD_SIZE": "8",
    "MPI_LOCALRANKID": "3",
    "MPI_LOCALNRANKS": "8",
    "PET_NNODES": "2",
    "PET_MASTER_ADDR": "10.0.0.1",
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "1",
    "ACCELERATE_USE_DEEPSPEED": "true",
    "DEEPSPEED_TIMEOUT": "5",
    "SMDATAPARALLEL_LOCAL_RANK": "3",
    "VLLM_DP_RANK": "1",
    "ROLE_NAME": "worker",
}
USERS = {
    "PATH": "/bin",
    "LOCAL_LLM": "judge",
    "HF_HOME": "/hf",
    "GROUP": "users",
    "TORCH_HOME": "/torch",
    "CUDA_VISIBLE_DEVICES": "1",
    "SLURM_JOB_ID": "17",
    "SLURM_CPUS_PER_TASK": "8",
    "NCCL_SOCKET_IFNAME": "eth0",
    "MPI_HOME": "/mpi",
    "MASTER": "me",
}


def test_commands_are_our_interpreters() -> None:
    assert launchers.plain(["-m", "pkg", "--x"]) == (sys.executable, "-m", "pkg", "--x")
    assert launchers.torchrun(8, 1234, ["run.py", "--nproc", "1"]) == (
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nnodes=1",
        "--nproc-per-node=8",
        "--max-restarts=0",
        "--master-addr=127.0.0.1",
        "--master-port=1234",
        "run.py",
        "--nproc",
        "1",
    )


def test_accelerate_carries_the_guides_flags_and_its_own_configuration() -> None:
    command = launchers.accelerate(4, 12346, ["-m", "lmms_eval"])
    assert command[:3] == (sys.executable, "-m", "accelerate.commands.launch") and command[-2:] == (
        "-m",
        "lmms_eval",
    )
    assert {
        "--num_processes=4",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
        "--main_process_port=12346",
        "--multi_gpu",
    } <= set(command)
    assert (
        f"--config_file={launchers.ACCELERATE_CONFIG}" in command
        and launchers.ACCELERATE_CONFIG.is_file()
    )
    assert "--multi_gpu" not in launchers.accelerate(1, 12346, ["-m", "lmms_eval"]), (
        "accelerate refuses it with one"
    )


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as server:
        server.bind(("", launchers.free_port()))
        server.listen()


def test_a_place_is_that_of_the_rank_in_its_launcher() -> None:
    assert Place.read({**USERS, **TORCHRUN}) == Place(1, 1, 2)
    assert Place.read({**USERS, **ACCELERATE_ONE}) == Place()
    assert Place.read(USERS) == Place()


@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE_ONE, CLUSTERS, {}])
def test_launcher_variables_are_told_from_the_users(launcher: dict[str, str]) -> None:
    environ = {**USERS, **launcher}
    assert set(launcher_variables(environ)) == set(launcher) - {"OMP_NUM_THREADS"}


def test_no_process_is_started_with_the_variables_of_another_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    foreign = {**TORCHRUN, **CLUSTERS}
    del foreign["OMP_NUM_THREADS"]
    for name, value in {**foreign, "CUDA_VISIBLE_DEVICES": "1"}.items():
        monkeypatch.setenv(name, value)
    listing = supervisor.capture([sys.executable, "-S", "-c", "import os; print(*os.environ)"])
    assert (
        listing is not None
        and "CUDA_VISIBLE_DEVICES" in listing.split()
        and not set(foreign) & set(listing.split())
    )
    printed = shlex.split(str(Job("score", ("true",), {"RANK": "", "X": "1"})))
    assert {printed[at + 1] for at, word in enumerate(printed) if word == "-u"} == set(
        launcher_variables(os.environ)
    )
    assert printed.count("RANK") == 1 and printed[-2:] == ["X=1", "true"]


def test_a_worker_gets_its_name_and_share() -> None:
    changes = worker_env({"X": "1"}, Place.read(TORCHRUN), ("4", "5", "6", "7"))
    assert changes == {
        "EASI_WORKER": "w1",
        "EASI_DISPATCHER": "1",
        "CUDA_VISIBLE_DEVICES": "6,7",
        "X": "1",
    }
    assert worker_env({}, Place(), ()) == {"EASI_WORKER": "w0", "EASI_DISPATCHER": "1"}


@pytest.mark.parametrize(
    ("users", "cores", "workers", "threads"),
    [
        ("1", 64, 2, "1"),
        ("12", 64, 8, "12"),
        ("4,2", 64, 8, "4"),
        (None, 64, 2, "8"),
        (None, 64, 16, "4"),
        (None, 2, 1, "2"),
        (None, 2, 4, "1"),
        ("", 6, 2, "3"),
        ("0", 6, 2, "3"),
        ("many", 6, 2, "3"),
    ],
)
def test_threads_are_the_users_number_or_a_share_of_the_cores(
    users: str | None, cores: int, workers: int, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if users is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", users)
    assert launch_env.threads(workers) == {"OMP_NUM_THREADS": threads}


def test_a_launch_that_was_killed_is_started_again_three_times_in_a_row() -> None:
    restarts = Restarts()

    def ended(code: int | None, seconds: float) -> bool:
        return restarts.allow(Outcome(Job("answer", ()), code, seconds))

    assert not ended(0, 5) and not ended(None, 5)  # it is done, or was told to stop
    killed = -signal.SIGKILL
    assert [ended(killed, 5) for _ in range(5)] == [True, True, True, False, False]
    assert ended(killed, 1000) and ended(1, 5) and ended(1, 5) and not ended(1, 5)


def test_exit_codes_for_people() -> None:
    assert [describe(code) for code in (1, -9, -99, None)] == [
        "exit code 1",
        "SIGKILL",
        "signal 99",
        "our request",
    ]
