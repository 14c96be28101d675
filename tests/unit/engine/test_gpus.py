from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from easi_eval.core.errors import EasiError
from easi_eval.engine.processes import gpus
from easi_eval.engine.processes.gpu_use import gpu_use
from easi_eval.engine.processes.gpus import Gpu, share, visible

FOUR = tuple(Gpu(f"GPU-{letter * 8}-0000") for letter in "abcd")
MIG = (Gpu("GPU-aaaa", mig=True, slices=("MIG-1111", "MIG-1222")), Gpu("GPU-bbbb"))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, ("0", "1", "2", "3")),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("2", ("2",)),
        ("3,1", ("3", "1")),
        (" 1 , 2 ", ("1", "2")),
        ("0,9,1", ("0",)),  # CUDA stops at the first entry that names no device
        ("0,-1,1", ("0",)),
        ("1,1", ()),
        ("GPU-bbbbbbbb-0000,0", ("GPU-bbbbbbbb-0000", "0")),
        ("GPU-bb", ("GPU-bb",)),  # a beginning that is enough to tell
        ("GPU-", ()),
        ("GPU-eeee", ()),
        ("0,GPU-aaaa", ()),  # the same device twice
        ("nonsense", ()),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(
    setting: str | None, expected: tuple[str, ...]
) -> None:
    assert visible(setting, FOUR) == expected


def test_mig_instances_are_devices_by_name() -> None:
    assert visible(None, MIG) == ("MIG-1111", "MIG-1222", "GPU-bbbb")
    assert visible("MIG-1222,MIG-1111", MIG) == ("MIG-1222", "MIG-1111")
    assert visible("MIG-1", MIG) == ()
    assert visible("MIG-GPU-aaaa/1/0,MIG-GPU-aaaa/2/0", MIG) == (
        "MIG-GPU-aaaa/1/0",
        "MIG-GPU-aaaa/2/0",
    )
    assert visible("MIG-GPU-cccc/1/0", MIG) == ()


@pytest.mark.parametrize(
    ("gpus", "nproc", "expected"),
    [
        (("0", "1", "2", "3"), 4, ["0", "1", "2", "3"]),
        (("4", "6"), 1, ["4,6"]),
        (("0", "1", "2", "3", "4", "5", "6", "7"), 2, ["0,1,2,3", "4,5,6,7"]),
        (("0", "1", "2", "3", "4", "5", "6", "7"), 3, ["0,1", "2,3", "4,5"]),
        (("MIG-1111", "GPU-bbbb"), 2, ["MIG-1111", "GPU-bbbb"]),
        ((), 3, ["", "", ""]),
    ],
)
def test_shares_are_consecutive_equal_and_disjoint(
    gpus: tuple[str, ...], nproc: int, expected: list[str]
) -> None:
    assert [share(gpus, rank, nproc) for rank in range(nproc)] == expected


def test_more_processes_than_gpus_is_refused() -> None:
    with pytest.raises(EasiError, match="3 workers for 2 visible GPUs") as caught:
        share(("0", "1"), 0, 3)
    assert "--nproc 2" in caught.value.hint


# Two stand-ins with the C interface of the driver's libraries: a whole GPU, one cut into two MIG
# instances, and one that does not answer.
NVML = r"""
#include <stdio.h>
static int device[5];
int nvmlInitWithFlags(unsigned f) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { if (i > 1) return 15; *d = &device[i]; return 0; }
int nvmlDeviceGetUUID(void *d, char *text, unsigned n) {
    long i = (int *)d - device;
    snprintf(text, n, i < 2 ? "GPU-%ld" : "MIG-%ld", i); return 0; }
int nvmlDeviceGetName(void *d, char *text, unsigned n) { snprintf(text, n, "Stand-in"); return 0; }
int nvmlDeviceGetMigMode(void *d, unsigned *now, unsigned *later) {
    if (d == device) return 3; *now = *later = 1; return 0; }
int nvmlDeviceGetMaxMigDeviceCount(void *d, unsigned *n) { *n = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *d, unsigned i, void **part) {
    if (i != 0 && i != 4) return 6; *part = &device[i ? 3 : 2]; return 0; }
"""  # noqa: E501 -- lines of a program in a string
CUDA = "int cuInit(unsigned f) { return 0; } int cuDeviceGetCount(int *n) { *n = 2; return 0; }"


def _ask(folder: Path, library: str, source: str, expression: str, **env: str) -> object:
    (folder / "source.c").write_text(source)
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", str(folder / library), str(folder / "source.c")],
        check=True,
    )
    code = (
        "import sys; from easi_eval.engine.processes.gpus import *; "
        f"from easi_eval.engine.processes.gpu_use import gpu_use; print(repr({expression}))"
    )
    environ = {**os.environ, "LD_LIBRARY_PATH": str(folder), "PATH": "", **env}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environ, check=True, text=True, stdout=subprocess.PIPE
    )
    return eval(answer.stdout, {"Gpu": Gpu})


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_gpus_are_read_through_the_drivers_interface(tmp_path: Path) -> None:
    assert _ask(tmp_path, "libnvidia-ml.so.1", NVML, "installed_gpus()") == (
        Gpu("GPU-0", "Stand-in"),
        Gpu("GPU-1", "Stand-in", True, ("MIG-2", "MIG-3")),
    )
    assert _ask(
        tmp_path, "libnvidia-ml.so.1", NVML, "visible_gpus()", CUDA_VISIBLE_DEVICES="1,0"
    ) == ("1", "0")


# Four whole GPUs, of which the last one cannot tell how busy it is.
USE = r"""
#include <stdio.h>
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned gpu, memory; } rates;
static int device[4];
int nvmlInitWithFlags(unsigned f) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 4; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = &device[i]; return 0; }
int nvmlDeviceGetHandleByUUID(char *text, void **d) { *d = &device[text[4] - 'a']; return 0; }
int nvmlDeviceGetIndex(void *d, unsigned *i) { *i = (int *)d - device; return 0; }
int nvmlDeviceGetUUID(void *d, char *text, unsigned n) {
    snprintf(text, n, "GPU-%c", (char)('a' + ((int *)d - device))); return 0; }
int nvmlDeviceGetName(void *d, char *text, unsigned n) { snprintf(text, n, "Stand-in"); return 0; }
int nvmlDeviceGetMigMode(void *d, unsigned *now, unsigned *later) { return 3; }
int nvmlDeviceGetMemoryInfo(void *d, memory *m) {
    m->total = 80ull << 30; m->used = (1ull + ((int *)d - device)) << 30; return 0; }
int nvmlDeviceGetUtilizationRates(void *d, rates *r) {
    if (d == &device[3]) return 3; r->gpu = 10 * ((int *)d - device); return 0; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.skipif(not importlib.util.find_spec("pynvml"), reason="needs nvidia-ml-py")
@pytest.mark.parametrize(
    ("mask", "nproc", "said"),
    [
        ("2,0", 1, "2: 3/80 GiB, 20 %; 0: 1/80 GiB, 0 %"),
        ("GPU-b", 1, "1: 2/80 GiB, 10 %"),
        ("0,1,2", 2, "0: 1/80 GiB, 0 %; 1: 2/80 GiB, 10 %"),
        ("", 1, None),
        ("0,3", 1, None),
    ],
)
def test_the_use_of_the_gpus_of_a_run_is_read(
    tmp_path: Path, mask: str, nproc: int, said: str | None
) -> None:
    """Of those in CUDA_VISIBLE_DEVICES that the workers are given; a GPU that fails ends it."""
    asked = f"next(gpu_use({nproc}), None)"
    assert _ask(tmp_path, "libnvidia-ml.so.1", USE, asked, CUDA_VISIBLE_DEVICES=mask) == said


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_without_its_package_the_use_of_gpus_is_left_out(tmp_path: Path) -> None:
    asked = "sys.modules.update(pynvml=None) or list(gpu_use(1))"
    assert _ask(tmp_path, "libnvidia-ml.so.1", USE, asked, CUDA_VISIBLE_DEVICES="0") == []


def test_without_a_gpu_there_is_no_use_to_tell() -> None:
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has one")
    assert list(gpu_use(1)) == []


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_gpus_are_counted_by_cuda_where_there_is_nothing_else(tmp_path: Path) -> None:
    assert _ask(tmp_path, "libcuda.so.1", CUDA, "visible_gpus({})") == ("0", "1")
    assert _ask(
        tmp_path, "libcuda.so.1", CUDA, "visible_gpus()", CUDA_VISIBLE_DEVICES="6, 4,99"
    ) == ("6", "4")


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_check_before_the_start_counts_mig_instances_as_workers_do(tmp_path: Path) -> None:
    """CUDA shows a process one MIG instance, whatever it is given."""
    cuda = (
        CUDA.replace("*n = 2", "*n = 1")
        + " int cuDriverGetVersion(int *n) { *n = 12080; return 0; }"
    )
    (tmp_path / "cuda.c").write_text(cuda)
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", str(tmp_path / "libcuda.so.1"), str(tmp_path / "cuda.c")],
        check=True,
    )
    asked = "(lambda found: (found.visible, found.shared))(probe_machine())"
    assert _ask(tmp_path, "libnvidia-ml.so.1", NVML, asked, CUDA_VISIBLE_DEVICES="MIG-2,MIG-3") == (
        1,
        2,
    )
    assert _ask(tmp_path, "libnvidia-ml.so.1", NVML, asked, CUDA_VISIBLE_DEVICES="MIG-3") == (1, 1)
    assert _ask(tmp_path, "libnvidia-ml.so.1", NVML, asked, CUDA_VISIBLE_DEVICES="1") == (1, 1)


def test_a_machine_without_a_driver_has_none() -> None:
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has one")
    assert gpus.visible_gpus({"CUDA_VISIBLE_DEVICES": "0,1"}) == ()
