"""With ``--nproc 8`` the guide's launchers have eight ranks, and each rank a worker of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

import model_classes
from easi_eval.engine.processes import guard
from program import Launch, User, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.alone]

WORKERS = 8
# A stand-in with the C interface of the driver: accelerate is for GPUs.
CUDA = f"""
int cuInit(unsigned flags) {{ return 0; }}
int cuDeviceGetCount(int *n) {{ *n = {WORKERS}; return 0; }}
int cuDriverGetVersion(int *n) {{ *n = 13000; return 0; }}
"""
MODELS = {
    "vlmevalkit": ("--model", "Idle", "--device", "cpu"),
    "lmms-eval": ("--model", "idle", "--model-args", "pretrained=nothing"),
}


def variables(pid: int) -> dict[str, str]:
    """The environment with which a process was started; empty if it is gone."""
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return {name: value for name, _, value in (line.partition("=") for line in text.split("\0"))}


def tree(launch: Launch, module: str) -> dict[tuple[str, str], set[str]]:
    """The workers below each rank, by launcher and rank; a rank is a child of the launcher."""
    parents = guard.process_table()
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for pid in launch.alive():
        rank, parent = variables(pid).get("RANK"), parents.get(pid, 0)
        if rank and module.encode() in guard.command_line(parent):
            below = (variables(each).get("EASI_WORKER", "") for each in guard.descendants(pid))
            found[str(parent), rank] |= {worker for worker in below if worker}
    return found


@pytest.mark.parametrize(
    ("backend", "module"),
    [("vlmevalkit", "torch.distributed.run"), ("lmms-eval", "accelerate.commands.launch")],
)
def test_eight_workers_stand_below_the_launcher_of_the_guide(
    backend: str, module: str, tmp_path: Path
) -> None:
    if backend == "lmms-eval" and shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    user = User(tmp_path)
    driver = tmp_path / "driver"
    driver.mkdir()
    changes = model_classes.install(tmp_path / "model", "idle", "def answer_to(text): return 'A'\n")
    if backend == "lmms-eval":
        (driver / "cuda.c").write_text(CUDA)
        library = ["-o", str(driver / "libcuda.so.1"), str(driver / "cuda.c")]
        subprocess.run(["cc", "-shared", "-fPIC", *library], check=True)
        changes["LD_LIBRARY_PATH"] = str(driver)
    options = ("--smoke", "--backend", backend, *MODELS[backend], "--nproc", WORKERS, "--no-rich")
    more = ("--benchmarks", "viewspatial", "--output-dir", tmp_path / "out")
    with user.start(*options, *more, **changes) as launch:
        expected = {str(rank): {f"w{rank}"} for rank in range(WORKERS)}
        seen: dict[tuple[str, str], set[str]] = {}

        def whole() -> bool:
            seen.update(tree(launch, module))
            return {rank: workers for (_, rank), workers in seen.items()} == expected

        wait_until(whole, 300, launch)
        launch.process.send_signal(signal.SIGINT)
        launch.wait(120)
        wait_until(lambda: not launch.alive(), 30)
    assert len({launcher for launcher, _ in seen}) == 1 and len(seen) == WORKERS, seen
    assert launch.code == 130, launch.said
