"""VLMEvalKit finds media in a hub cache of any name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

LOOK = """
from vlmeval.smp import get_cache_path
from easi_vlmevalkit import patches
before = get_cache_path("org/media")
patches.use_the_hub_cache()
print("FOUND", before, get_cache_path("org/media"))
"""


def test_media_are_found_in_a_cache_that_is_not_called_hub(tmp_path: Path) -> None:
    repo = tmp_path / "big-disk" / "datasets--org--media"
    commit = "1" * 40
    for folder in ("refs", "blobs", f"snapshots/{commit}"):
        (repo / folder).mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "blobs" / "abc").write_text("one")
    (repo / "snapshots" / commit / "a.txt").symlink_to(repo / "blobs" / "abc")
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, "HF_HUB_CACHE": str(repo.parent), "VLMEVALKIT_USE_MODELSCOPE": "0"},
    )
    (found,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert found == f"FOUND None {repo / 'snapshots' / commit}"
