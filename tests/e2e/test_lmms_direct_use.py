"""``cd lmms-eval && pip install -e .`` and the guide's block for lmms-eval itself.

Both are taken as lmms-eval/README.md has them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import Runs
from easi_eval.data.local_hub.server import LocalHub
from program import REPOSITORY, User, a_closed_port

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

PROJECT = REPOSITORY / "lmms-eval"
README = (PROJECT / "README.md").read_text(encoding="utf-8")
# What of the block needs four GPUs and the network.
CHANGES = {
    "CUDA_VISIBLE_DEVICES=0,1,2,3 ": "",
    "--num_processes=4": "--num_processes=1",
    "--model qwen3_vl": "--model qwen2_5_vl --device cpu",
    "pretrained=Qwen/Qwen3-VL-8B-Instruct,attn_implementation=flash_attention_2": (
        "pretrained=easi-smoke/Tiny-VLM,device_map=cpu,min_pixels=784,max_pixels=3136"
    ),
}


@dataclass(frozen=True)
class Installed:
    """A copy of the project, installed as its README says.

    The environment has all it needs but the project itself.
    """

    user: User
    project: Path
    python: Path

    def run(self, *argv: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.python), *argv],
            cwd=self.project,
            capture_output=True,
            text=True,
            timeout=600,
            env=self.user.environment(**changes),
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    root = tmp_path_factory.mktemp("direct-lmms")
    project = root / "lmms-eval"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    venv.create(root / "venv", with_pip=False, symlinks=True)
    (site,) = (root / "venv" / "lib").glob("python*/site-packages")
    (site / "all-else.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    made = Installed(User(root / "user"), project, root / "venv" / "bin" / "python")
    # Nothing may have to be fetched: all that pyproject.toml asks for is there, in the right
    # versions.
    done = made.run("-m", "pip", "install", "--no-index", "--no-build-isolation", "-e", ".")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return made


def test_it_installs_by_itself_and_shadows_nothing(installed: Installed) -> None:
    """In the project's folder the real package is imported, and our model type is registered."""
    done = installed.run(
        "-c",
        "import lmms_eval; from lmms_eval import models; print(lmms_eval.__file__, "
        "models.get_model_manifest('easi_vlm').chat_class_path)",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    where, cls = done.stdout.split()
    assert (
        where.startswith(sysconfig.get_path("purelib")) and cls == "easi_lmms_eval.generic.EasiVLM"
    )


def test_the_guides_block_runs_as_it_is_written(installed: Installed, runs: Runs) -> None:
    (block,) = re.findall(r"```bash\ncd lmms-eval\n(.*?)```", README, re.DOTALL)
    port = re.search(r"--main_process_port=(\d+)", block)
    assert port
    for old, new in {**CHANGES, port[0]: f"--main_process_port={a_closed_port()}"}.items():
        assert old in block, old
        block = block.replace(old, new)
    words = block.replace("\\\n", " ").split()
    assert words[:2] == ["accelerate", "launch"]
    with LocalHub(runs.served) as running:
        done = installed.run(
            "-m",
            "accelerate.commands.launch",
            *words[2:],
            HF_ENDPOINT=running.endpoint,
            HF_HUB_DISABLE_XET="1",
            NO_PROXY="127.0.0.1",
            CUDA_VISIBLE_DEVICES="-1",
        )
    said = done.stdout[-3000:] + done.stderr[-3000:]
    assert done.returncode == 0, said
    found = list((installed.project / "logs").glob("*/*_results.json"))
    assert len(found) == 1, said
    (samples,) = found[0].parent.glob("*_samples_vsibench_multiimage.jsonl")
    assert len(samples.read_text(encoding="utf-8").splitlines()) == 24
    assert "vsibench_multiimage" in json.loads(found[0].read_text(encoding="utf-8"))["results"]
