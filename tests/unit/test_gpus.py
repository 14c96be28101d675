from __future__ import annotations

import pytest
from easi_eval.errors import EasiError
from easi_eval.execution.gpus import Gpu, parse_listing, share, visible

FOUR = tuple(Gpu(f"GPU-{letter * 8}-0000") for letter in "abcd")
MIG = (Gpu("GPU-aaaa", mig=True, slices=("MIG-1111", "MIG-1222")), Gpu("GPU-bbbb"))

LISTING = """\
GPU 0: NVIDIA H200 (UUID: GPU-11111111-aaaa-bbbb-cccc-000000000000)
GPU 1: NVIDIA A100-SXM4 (80 GB) (UUID: GPU-22222222-aaaa-bbbb-cccc-000000000000)
  MIG 3g.40gb     Device  0: (UUID: MIG-33333333-aaaa-bbbb-cccc-000000000000)
  MIG 1g.10gb     Device  1: (UUID: MIG-44444444-aaaa-bbbb-cccc-000000000000)
"""


@pytest.mark.parametrize(("setting", "expected"), [
    (None, ("0", "1", "2", "3")),
    ("", ()),
    ("-1", ()),
    ("NoDevFiles", ()),
    ("2", ("2",)),
    ("3,1", ("3", "1")),
    (" 1 , 2 ", ("1", "2")),
    ("0,9,1", ("0",)),                              # CUDA stops at the first entry that names no device
    ("0,-1,1", ("0",)),
    ("1,1", ()),
    ("GPU-bbbbbbbb-0000,0", ("GPU-bbbbbbbb-0000", "0")),
    ("GPU-bb", ("GPU-bb",)),                        # a beginning that is enough to tell
    ("GPU-", ()),
    ("GPU-eeee", ()),
    ("0,GPU-aaaa", ()),                             # the same device twice
    ("nonsense", ()),
])
def test_visible_devices_are_read_as_cuda_reads_them(setting: str | None, expected: tuple[str, ...]) -> None:
    assert visible(setting, FOUR) == expected


def test_mig_instances_are_devices_by_name() -> None:
    assert visible(None, MIG) == ("MIG-1111", "MIG-1222", "GPU-bbbb")
    assert visible("MIG-1222,MIG-1111", MIG) == ("MIG-1222", "MIG-1111")
    assert visible("MIG-1", MIG) == ()
    assert visible("MIG-GPU-aaaa/1/0,MIG-GPU-aaaa/2/0", MIG) == ("MIG-GPU-aaaa/1/0", "MIG-GPU-aaaa/2/0")
    assert visible("MIG-GPU-cccc/1/0", MIG) == ()


@pytest.mark.parametrize(("gpus", "nproc", "expected"), [
    (("0", "1", "2", "3"), 4, ["0", "1", "2", "3"]),
    (("4", "6"), 1, ["4,6"]),
    (("0", "1", "2", "3", "4", "5", "6", "7"), 2, ["0,1,2,3", "4,5,6,7"]),
    (("0", "1", "2", "3", "4", "5", "6", "7"), 3, ["0,1", "2,3", "4,5"]),
    (("MIG-1111", "GPU-bbbb"), 2, ["MIG-1111", "GPU-bbbb"]),
    ((), 3, ["", "", ""]),
])
def test_shares_are_consecutive_equal_and_disjoint(gpus: tuple[str, ...], nproc: int, expected: list[str]) -> None:
    assert [share(gpus, rank, nproc) for rank in range(nproc)] == expected


def test_more_processes_than_gpus_is_refused() -> None:
    with pytest.raises(EasiError, match="3 processes for 2 visible GPUs") as caught:
        share(("0", "1"), 0, 3)
    assert "--nproc 2" in caught.value.hint


def test_the_listing_of_nvidia_smi_is_understood() -> None:
    assert parse_listing(LISTING) == (
        Gpu("GPU-11111111-aaaa-bbbb-cccc-000000000000", "NVIDIA H200"),
        Gpu("GPU-22222222-aaaa-bbbb-cccc-000000000000", "NVIDIA A100-SXM4 (80 GB)", None, True,
            ("MIG-33333333-aaaa-bbbb-cccc-000000000000", "MIG-44444444-aaaa-bbbb-cccc-000000000000")))
    assert parse_listing("No devices found.\n") == ()
