"""A model class is imported beside a download, so that a missing package is told early."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from easi_eval.benchmarks import LMMS_EVAL, VLMEVALKIT
from hub_faults import Faults, FaultyHub
from program import User, wait_until
from rehearsal_data import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.faults]

LACKING = "a_package_that_nobody_has"
DATA = {
    VLMEVALKIT: "lmms-lab-si/EASI-Leaderboard-Data/BLINK.tsv",
    LMMS_EVAL: "BLINK-Benchmark/BLINK/data.parquet",
}
SIZE = 50_000_000
CLASS = """
from pathlib import Path
from vlmeval.vlm.base import BaseModel
{first}
class Own(BaseModel):
    def generate_inner(self, message, dataset=None):
        return "A"
"""
HANGS = """
import os, time
Path({started!r}).write_text(" ".join(sorted(os.environ)) + " GPUs " + os.environ["CUDA_VISIBLE_DEVICES"])
time.sleep(600)
"""  # noqa: E501 -- lines of a program in a string


@dataclass(frozen=True)
class Site:
    """A user with a class of their own, and a hub that takes hours for its data."""

    user: User
    hub: FaultyHub

    def write_class(self, first: str) -> None:
        own = self.user.root / "own"
        own.mkdir()
        (own / "own.py").write_text(CLASS.format(first=first))

    def options(self, backend: str, *model: object) -> list[object]:
        out, data = self.user.root / "out", self.user.root / "data"
        return [
            *("--backend", backend, *model, "--device", "cpu", "--benchmarks", "blink"),
            *("--output-dir", out, "--dataset-dir", data, "--no-rich", "--judge", "exact_matching"),
        ]

    @property
    def changes(self) -> dict[str, str]:
        return {
            "HF_ENDPOINT": self.hub.endpoint,
            "NO_PROXY": "127.0.0.1",
            "EASI_VLM_DIR": str(self.user.root / "own"),
            "RANK": "3",
            "LOCAL_RANK": "3",
        }


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    for name in DATA.values():
        path = tmp_path / "served" / "datasets" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * SIZE)
    with FaultyHub(tmp_path / "served") as hub:
        hub.set_faults(Faults(match="/resolve/", slow=0.2, drop_after=1_000_000))
        yield Site(User(tmp_path / "user"), hub)


def test_a_missing_package_is_told_before_the_data_are_there(site: Site) -> None:
    site.write_class(f"import {LACKING}")
    launch = site.user.run(*site.options(VLMEVALKIT, "--model", "Own"), **site.changes)
    assert launch.code == 2, launch.said
    assert f"own.Own imports {LACKING}, and no such module is installed" in launch.err
    assert f"python -m pip install {LACKING}" in launch.err
    assert "Traceback" not in launch.out + launch.err
    (log,) = launch.logs
    assert f"[import] ModuleNotFoundError: No module named '{LACKING}'" in log.read_text()
    assert sum(request.sent for request in site.hub.served()) < SIZE
    assert launch.alive() == []


def test_so_it_is_for_a_type_of_lmms_eval(site: Site, tmp_path: Path) -> None:
    model = checkpoint.build(tmp_path / "tiny")
    choice = ("--model", "llava_vid", "--model-args", f"pretrained={model}")
    launch = site.user.run(*site.options(LMMS_EVAL, *choice), **site.changes)
    assert launch.code == 2, launch.said
    assert "llava_vid imports llava" in launch.err
    assert launch.alive() == []


@pytest.mark.parametrize("end", ["Ctrl-C", "download_fails"])
def test_the_import_ends_with_the_download(site: Site, tmp_path: Path, end: str) -> None:
    started = tmp_path / "started"
    site.write_class(HANGS.format(started=str(started)))
    with site.user.start(*site.options(VLMEVALKIT, "--model", "Own"), **site.changes) as launch:
        wait_until(started.exists, 240, launch)
        if end == "Ctrl-C":
            os.kill(launch.process.pid, signal.SIGINT)
        else:
            site.hub.set_faults(Faults(status=404, times=-1))
        launch.wait(120)
        assert launch.code == (130 if end == "Ctrl-C" else 2), launch.said
        assert launch.alive() == []
    *names, _, gpus = started.read_text().split()
    assert gpus == "-1"
    assert not {"RANK", "LOCAL_RANK"} & set(names)
