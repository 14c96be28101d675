"""With ``--nproc 8`` accelerate has eight ranks, and each rank a worker of its own.

That torchrun has them too is looked at in test_guide.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

import model_classes
from program import User, wait_until
from ranks import workers_below

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.alone]

WORKERS = 8
# A stand-in with the C interface of the driver: accelerate is for GPUs.
CUDA = f"""
int cuInit(unsigned flags) {{ return 0; }}
int cuDeviceGetCount(int *n) {{ *n = {WORKERS}; return 0; }}
int cuDriverGetVersion(int *n) {{ *n = 13000; return 0; }}
"""


def test_eight_workers_stand_below_accelerate(tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    user = User(tmp_path)
    driver = tmp_path / "driver"
    driver.mkdir()
    changes = model_classes.install(tmp_path / "model", "idle", "def answer_to(text): return 'A'\n")
    (driver / "cuda.c").write_text(CUDA)
    library = ["-o", str(driver / "libcuda.so.1"), str(driver / "cuda.c")]
    subprocess.run(["cc", "-shared", "-fPIC", *library], check=True)
    changes["LD_LIBRARY_PATH"] = str(driver)
    model = ("--model", "idle", "--model-args", "pretrained=nothing")
    options = ("--smoke", "--backend", "lmms-eval", *model, "--nproc", WORKERS, "--no-rich")
    more = ("--benchmarks", "viewspatial", "--output-dir", tmp_path / "out")
    with user.start(*options, *more, **changes) as launch:
        expected = {str(rank): {f"w{rank}"} for rank in range(WORKERS)}
        seen: dict[tuple[str, str], set[str]] = {}

        def whole() -> bool:
            seen.update(workers_below(launch.alive(), "accelerate.commands.launch"))
            return {rank: workers for (_, rank), workers in seen.items()} == expected

        wait_until(whole, 300, launch)
        launch.process.send_signal(signal.SIGINT)
        launch.wait(120)
        wait_until(lambda: not launch.alive(), 30)
    assert len({launcher for launcher, _ in seen}) == 1 and len(seen) == WORKERS, seen
    assert launch.code == 130, launch.said
