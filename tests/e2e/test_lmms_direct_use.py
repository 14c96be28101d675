"""``cd lmms-eval``, ``pip install -e .`` and the launch of lmms-eval itself, as in the guide."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

import checkpoints
from conftest import Runs
from easi_eval.data.local_hub.server import LocalHub
from guide import BLOCKS
from program import REPOSITORY, User, a_closed_port

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

PROJECT = REPOSITORY / "lmms-eval"
INSTALL, LAUNCH = BLOCKS[8].split("# Example: ")
# All that is not word for word; where there is no GPU, accelerate starts one process of the four.
CHANGES = {
    "flash_attention_2": "sdpa",  # flash-attn is not installed
    "12346": str(a_closed_port()),
}
# Nothing may have to be fetched: all that pyproject.toml asks for is there, in the right versions.
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # 0 for "off", as pip reads it


@dataclass(frozen=True)
class Installed:
    """A copy of the project, and an environment that has all it needs but the project itself."""

    user: User
    folder: Path

    def paste(self, command: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-e", "-c", command],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=800,
            env=self.user.environment(
                **{"PATH": f"{self.folder / 'venv' / 'bin'}:{os.environ['PATH']}", **changes}
            ),
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("direct-lmms")
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(PROJECT, folder / "lmms-eval", ignore=left_out)
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "all-else.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    for name, module in (("pip", "pip"), ("accelerate", "accelerate.commands.accelerate_cli")):
        script = folder / "venv" / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{folder}/venv/bin/python" -m {module} "$@"\n')
        script.chmod(0o755)
    made = Installed(User(folder / "user"), folder)
    done = made.paste(INSTALL, **OFFLINE)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return made


def test_it_installs_by_itself_and_shadows_nothing(installed: Installed) -> None:
    """In the project's folder the real package is imported, and our model type is registered."""
    done = installed.paste(
        "cd lmms-eval\npython -c 'import lmms_eval; from lmms_eval import models; "
        'print(lmms_eval.__file__, models.get_model_manifest("easi_vlm").chat_class_path)\''
    )
    assert done.returncode == 0, done.stderr[-2000:]
    where, cls = done.stdout.split()
    assert (
        where.startswith(sysconfig.get_path("purelib")) and cls == "easi_lmms_eval.generic.EasiVLM"
    )


def test_the_guides_block_runs_as_it_is_written(
    installed: Installed, runs: Runs, tmp_path: Path
) -> None:
    launch = LAUNCH.partition("\n")[2]
    for old, new in CHANGES.items():
        assert old in launch, old
        launch = launch.replace(old, new)
    (tmp_path / "datasets").symlink_to(runs.served / "datasets")
    checkpoints.qwen3_vl(tmp_path / "models" / "Qwen" / "Qwen3-VL-8B-Instruct")
    with LocalHub(tmp_path) as running:
        done = installed.paste(
            f"cd lmms-eval\n{launch}",
            HF_ENDPOINT=running.endpoint,
            HF_HUB_DISABLE_XET="1",
            NO_PROXY="127.0.0.1",
            PYTHONPATH=str(REPOSITORY / "tests" / "cpu_as_cuda"),
        )
    said = done.stdout[-3000:] + done.stderr[-3000:]
    assert done.returncode == 0, said
    found = list((installed.folder / "lmms-eval" / "logs").glob("*/*_results.json"))
    assert len(found) == 1, said
    (samples,) = found[0].parent.glob("*_samples_vsibench_multiimage.jsonl")
    assert len(samples.read_text(encoding="utf-8").splitlines()) == 24
    assert "vsibench_multiimage" in json.loads(found[0].read_text(encoding="utf-8"))["results"]
