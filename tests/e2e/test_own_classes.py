"""A user's model class in ``VLMEvalKit/vlmeval/vlm/``.

The README's example in a whole run, and how files are loaded.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from easi_eval.core.errors import EasiError
from easi_vlmevalkit import patches
from program import REPOSITORY, Results, User, run_folder
from rehearsal_data import checkpoint
from test_direct_use import readme_example

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

PROJECT = REPOSITORY / "VLMEvalKit"


def test_the_example_of_the_readme_is_evaluated(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "my_model.py").write_text(readme_example(), encoding="utf-8")
    model = checkpoint.build(tmp_path / "tiny-checkpoint")
    user, out = User(tmp_path), tmp_path / "out"
    launch = user.run(
        "--smoke",
        "--model",
        "MyModel",
        "--model-args",
        f"model_path={model},max_new_tokens=16",
        "--benchmarks",
        "embspatial,vsi_bench",
        "--limit",
        4,
        "--judge",
        "exact_matching",
        "--output-dir",
        out,
        "--no-rich",
        EASI_VLM_DIR=str(own),
    )
    assert launch.code == 0, launch.said
    folder = run_folder(out, "vlmevalkit", "tiny-checkpoint")
    assert folder.manifest["model"]["cls"] == "my_model.MyModel"
    assert "the model is a vlmeval.vlm.my_model.MyModel" in "".join(
        log.read_text(encoding="utf-8") for log in launch.logs
    )
    for key in ("embspatial", "vsi_bench"):
        assert len(folder.texts(key)) == 4 and all(folder.texts(key).values())
        assert Results(out).line(key)["n"] == "4"


FILES = {
    "as_in_a_fork.py": "from vlmeval.vlm.base import BaseModel\nfrom ..smp import load\n"
    "from .helper import ANSWER\n"
    "class Fork(BaseModel):\n    def generate_inner(self, message, dataset=None): return ANSWER\n",
    "helper.py": "ANSWER = 'A'\n",
    "parts/__init__.py": "from .model import Parts\n",
    "parts/model.py": "from ..base import BaseModel\nclass Parts(BaseModel):\n"
    "    def __init__(self, model_path, depth=1):\n"
    "        self.path, self.depth = model_path, depth\n",
    "base.py": "raise RuntimeError('in place of the installed module')\n",
    "broken.py": "import nothing_of_that_name\n",
    "plain.py": "class Plain: pass\n",
}
PROBE = """
import json, sys
from easi_eval.core.errors import EasiError
from easi_vlmevalkit import own_models, patches
import vlmeval, vlmeval.vlm

def refused(name):
    try:
        own_models.load(name)
    except EasiError as error:
        return error.message
open("{config}", "w").write(json.dumps({"model": {"M": {"class": "Fork"}, "N": {"class": "GPT4V"}}, "data": {}}))
patches.offer_own_classes("{config}")
print(json.dumps({
    "config": vlmeval.vlm.Fork.__module__,
    "ignored": patches.add_own_folder(), "package": vlmeval.__file__, "base": vlmeval.vlm.base.__file__,
    "fork": own_models.factory("as_in_a_fork.Fork", "", {})().generate_inner([]),
    "parts": vars(own_models.factory("parts.Parts", "org/checkpoint", {"depth": 3})()),
    "refused": [refused(name) for name in ("base.Base", "broken.Any", "plain.Plain", "helper.Nobody")],
}))
"""  # noqa: E501 -- lines of a program in a string


def test_files_are_loaded_beside_the_installed_package_and_never_in_its_place(
    tmp_path: Path,
) -> None:
    for name, text in FILES.items():
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    user = User(tmp_path)
    # The folder VLMEvalKit holds a folder "vlmeval" too, and is where run.py is started from.
    done = subprocess.run(
        [sys.executable, "-c", PROBE.replace("{config}", str(tmp_path / "config.json"))],
        cwd=PROJECT,
        env=user.environment(EASI_VLM_DIR=str(tmp_path / "own"), PYTHONPATH=str(PROJECT)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    installed = Path(found["package"]).parent
    assert "site-packages" in installed.parts and found["base"] == str(
        installed / "vlm" / "base.py"
    )
    assert found["ignored"] == [
        f"{tmp_path / 'own' / 'base.py'} is ignored: VLMEvalKit has a vlmeval.vlm.base of its "
        "own; rename it"
    ]
    assert found["config"] == "vlmeval.vlm.as_in_a_fork"
    assert found["fork"] == "A" and found["parts"] == {"path": "org/checkpoint", "depth": 3}
    base, broken, plain, nobody = found["refused"]
    assert base == "vlmeval.vlm.base is VLMEvalKit's own, not your file"
    assert "broken" in broken and "No module named 'nothing_of_that_name'" in broken
    assert plain.endswith("is no BaseModel") and nobody.endswith("has no class Nobody")


def test_an_init_file_that_would_hide_the_installed_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "__init__.py").touch()
    monkeypatch.setenv("EASI_VLM_DIR", str(tmp_path))
    with pytest.raises(EasiError, match="would shadow the installed vlmeval"):
        patches.add_own_folder()
