from __future__ import annotations

import socket
import sys

import pytest
from easi_eval.execution import launchers
from easi_eval.execution.keeper import Place, describe, worker_env

# As the ranks of `torchrun --nproc-per-node=2` (2.9.1) were seen to have it.
TORCHRUN = {
    "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29777", "OMP_NUM_THREADS": "1", "RANK": "1", "ROLE_NAME": "default", "ROLE_RANK": "1",
    "ROLE_WORLD_SIZE": "2", "TORCHELASTIC_ERROR_FILE": "/x/error.json", "TORCHELASTIC_MAX_RESTARTS": "0",
    "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1", "WORLD_SIZE": "2"}
# ... and of `accelerate launch` with one process, which starts no agent.
ACCELERATE_ONE = {
    "ACCELERATE_DYNAMO_BACKEND": "NO", "ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_CPU": "False",
    "OMP_NUM_THREADS": "1"}
USERS = {"PATH": "/bin", "LOCAL_LLM": "judge", "HF_HOME": "/hf", "GROUP": "users", "TORCH_HOME": "/torch"}


def test_commands_are_our_interpreters() -> None:
    assert launchers.plain(["-m", "pkg", "--x"]) == (sys.executable, "-m", "pkg", "--x")
    assert launchers.torchrun(8, 1234, ["run.py", "--nproc", "1"]) == (
        sys.executable, "-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=8", "--max-restarts=0",
        "--master-addr=127.0.0.1", "--master-port=1234", "run.py", "--nproc", "1")


def test_accelerate_carries_the_guides_flags_and_its_own_configuration() -> None:
    command = launchers.accelerate(4, 12346, ["-m", "lmms_eval"])
    assert command[:3] == (sys.executable, "-m", "accelerate.commands.launch") and command[-2:] == ("-m", "lmms_eval")
    assert {"--num_processes=4", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no",
            "--main_process_port=12346", "--multi_gpu"} <= set(command)
    assert f"--config_file={launchers.ACCELERATE_CONFIG}" in command and launchers.ACCELERATE_CONFIG.is_file()
    assert "--multi_gpu" not in launchers.accelerate(1, 12346, ["-m", "lmms_eval"]), "accelerate refuses it with one"


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as server:
        server.bind(("", launchers.free_port()))
        server.listen()


def test_a_place_knows_its_store_only_where_there_is_one() -> None:
    assert Place.read({**USERS, **TORCHRUN}) == Place(1, 1, 2, "127.0.0.1:29777")
    assert Place.read({**USERS, **ACCELERATE_ONE}) == Place()
    assert Place.read(USERS) == Place()
    no_agent = {**TORCHRUN, "TORCHELASTIC_USE_AGENT_STORE": "False"}     # rank 0 would host the store: we hold none
    assert Place.read(no_agent).store == ""


@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE_ONE, {}])
def test_a_worker_sees_no_trace_of_its_launcher_and_all_of_the_users(launcher: dict[str, str]) -> None:
    environ = {**USERS, **launcher}
    changes = worker_env(environ, {}, Place.read(environ), (), cpus=1)
    after = {name: value for name, value in {**environ, **changes}.items() if value != ""}
    assert {name for name in after if name not in USERS} <= {"EASI_WORKER", "EASI_STORE", "OMP_NUM_THREADS"}
    assert USERS.items() <= after.items()


def test_a_worker_gets_its_name_store_and_share() -> None:
    changes = worker_env(TORCHRUN, {"X": "1"}, Place.read(TORCHRUN), ("4", "5", "6", "7"), cpus=32)
    assert changes["EASI_WORKER"] == "w1" and changes["EASI_STORE"] == "127.0.0.1:29777"
    assert changes["CUDA_VISIBLE_DEVICES"] == "6,7" and changes["OMP_NUM_THREADS"] == "16" and changes["X"] == "1"
    alone = worker_env({}, {"OMP_NUM_THREADS": "3"}, Place(), (), cpus=32)
    assert alone["EASI_STORE"] == "" and "CUDA_VISIBLE_DEVICES" not in alone and alone["OMP_NUM_THREADS"] == "3"
    assert "OMP_NUM_THREADS" not in worker_env({"OMP_NUM_THREADS": "5"}, {}, Place(), (), cpus=32)


def test_exit_codes_for_people() -> None:
    assert [describe(code) for code in (1, -9, -99, None)] == ["exit code 1", "SIGKILL", "signal 99", "our request"]
