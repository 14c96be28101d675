"""A disk that is full where workers write.

The run ends with exit 1 and keeps what it had; no question fails because of it.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from easi_eval.backends.shared.model_files import weights_need
from easi_eval.benchmarks import by_key
from easi_eval.config import TINY_MODEL
from easi_eval.data.benchmark_needs import vlmevalkit_needs
from easi_eval.data.fetch import fetch
from easi_eval.data.local_hub.server import LocalHub
from easi_eval.data.needs import HubSettings
from program import PROGRAM, User
from rehearsal_data import checkpoint, repositories

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.faults]

# Starts the program where a small disk of its own lies over the folder of the tables.
SMALL_DISK = """
import os, sys
script = 'mount -t tmpfs -o size=64k tmpfs "$1" && cp "$2"/*.tsv "$1" && shift 2 && exec "$@"'
os.execvp("unshare", ["unshare", "-m", "bash", "-c", script, "bash", {disk!r}, {tables!r}, sys.executable, {program!r}, *sys.argv[1:]])
"""  # noqa: E501 -- lines of a program in a string


def test_pictures_that_cannot_be_written_end_the_run_and_fail_no_question(tmp_path: Path) -> None:
    if subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)],
        capture_output=True,
        check=False,
    ).returncode:
        pytest.skip("this user may not mount a small disk")
    home, tables = tmp_path / "huggingface", tmp_path / "datasets"
    repositories.build(tmp_path / "served", seed=1)
    checkpoint.build(tmp_path / "served" / "models" / TINY_MODEL)
    with LocalHub(tmp_path / "served") as served:
        needs = [weights_need(TINY_MODEL), *vlmevalkit_needs(by_key("blink"), tables)]
        fetch(needs, lambda event: None, HubSettings(endpoint=served.endpoint, hf_home=home))
    shutil.copytree(tables, tmp_path / "copy")
    start = tmp_path / "start.py"
    start.write_text(
        SMALL_DISK.format(disk=str(tables), tables=str(tmp_path / "copy"), program=str(PROGRAM))
    )
    options = [
        "--model",
        TINY_MODEL,
        "--model-args",
        "min_pixels=784,max_pixels=3136",
        "--device",
        "cpu",
        "--benchmarks",
        "blink",
        "--dataset-dir",
        tables,
        "--output-dir",
        tmp_path / "out",
        "--no-rich",
    ]
    user = User(tmp_path)
    full = replace(user, program=start).run(*options, HF_HUB_OFFLINE="1")
    journals = "".join(
        path.read_text(encoding="utf-8")
        for path in (tmp_path / "out").glob("runs/*/*/journal/*.jsonl")
    )
    assert full.code == 1 and "the disk is full" in full.out and "kept" in full.out, full.said
    assert '"failure":"' not in journals and "Traceback" not in full.out + full.err
    freed = user.run(*options, HF_HUB_OFFLINE="1")
    assert freed.code == 0 and "complete BLINK" in freed.out, freed.said
