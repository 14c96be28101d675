"""Names read from the backends' files, in small packages made here and in the installed ones.

The installed packages are never imported.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from easi_eval.backends.shared import catalog
from easi_eval.backends.shared.catalog import (
    Entry,
    LmmsModel,
    Package,
    check_known,
    locate,
    read_manifests,
)
from easi_eval.backends.shared.stand_ins import StandIn, evaluate
from easi_eval.core.backend_facts import BACKEND_FACTS
from easi_eval.core.errors import EasiError

KIT, LMMS = BACKEND_FACTS["vlmevalkit"], BACKEND_FACTS["lmms-eval"]


# ---- expressions of a class's source -------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1280 * 28 * 28", 1280 * 784),
        ("2**14 - -1", 16385),
        ("{'a': 1, **{'b': 2}} | dict(c=3)", {"a": 1, "b": 2, "c": 3}),
        ("f'm-{7}b'", "m-7b"),
        ("[*(1, 2), 3][1:]", [2, 3]),
        ("dict(a=1, **self.others)", {"a": 1}),
        ("{n: n * 2 for n in 'ab'}", {"a": "aa", "b": "bb"}),
    ],
)
def test_an_expression_is_evaluated(text: str, value: object) -> None:
    assert evaluate(ast.parse(text, mode="eval").body) == value


@pytest.mark.parametrize(
    "text",
    [
        "os.environ.get('HOME', 'b')",
        "open('/etc/passwd').read()",
        "__import__('os').getcwd()",
        "torch.bfloat16",
        "-threshold * 2",
        "'a' + 1",
        "{}['a']",
        "await something",
        "exit()",
    ],
)
def test_what_comes_from_outside_is_a_stand_in(text: str) -> None:
    assert isinstance(evaluate(ast.parse(text, mode="eval").body), StandIn)


# ---- packages ------------------------------------------------------------------------------------

CONFIG = """
from functools import partial
import copy as cp
import os, torch
import vlmeval.api as api, vlmeval.vlm as vlm
from vlmeval.vlm import *
from .own import helper
print("reading the registry")
open("written.txt", "w").write(os.getcwd())
os.environ["READ"] = "yes"
if torch.cuda.device_count() > 4 or os.path.exists("/"):
    raise RuntimeError
ROOT = None
PIXELS = 28 * 28
class Mine(vlm.Base):
    pass
class Bare:
    pass
a = {
    "Plain-7B": partial(vlm.Chat, model_path="org/Plain-7B", min_pixels=4 * PIXELS, root=ROOT, sizes=(1, 2)),
    "Typed": partial(vlm.Chat, model_path=os.getenv("M", "org/x"), dtype=torch.bfloat16),
    "Formed": partial(StarImported, model_path=f"{os.getenv('ROOT')}/x", key=os.environ.get("HOME")),
    "Mine": partial(Mine, model_path="org/mine"),
    "Bare": partial(Bare),
    "Twice": partial(partial(vlm.Chat, p=1, q=1), q=2),
}
b = {"Asks": partial(api.GPT4V, model="gpt", temperature=0)}
b["Asks-Again"] = cp.deepcopy(b["Asks"])
for size in ("1B", "2B"):
    b[f"Loop-{size}"] = partial(vlm.Chat, model_path=f"org/Loop-{size}", nested={"k": [1, helper]})
supported_VLM = {}
for group in [a, b]:
    supported_VLM.update(group)
supported_VLM["Computed"] = helper.make()
supported_VLM[f"{helper}"] = supported_VLM[helper.name] = partial(vlm.Chat)
"""  # noqa: E501 -- lines of a program in a string


def checkout(root: Path, kind: str, files: dict[str, str]) -> Package:
    package = BACKEND_FACTS[kind].package
    for name, text in {
        "pyproject.toml": 'version = "9.9"\n',
        f"{package}/__init__.py": "",
        **files,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return locate(BACKEND_FACTS[kind], root)


def test_registry_entries_of_a_fork(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    package = checkout(tmp_path, "vlmevalkit", {"vlmeval/config.py": CONFIG})
    entries = catalog.vlmeval_entries(package)
    assert list(entries.values()) == [
        Entry(
            "Plain-7B",
            "Chat",
            {"model_path": "org/Plain-7B", "min_pixels": 3136, "root": None, "sizes": [1, 2]},
            "org/Plain-7B",
        ),
        Entry("Typed", "Chat", {}, None, ("model_path", "dtype")),
        Entry("Formed", "StarImported", {}, None, ("model_path", "key")),
        Entry("Mine", "Mine", {"model_path": "org/mine"}, "org/mine"),
        Entry("Bare", "Bare"),
        Entry("Twice", "Chat", {"p": 1, "q": 2}),
        Entry("Asks", "GPT4V", {"model": "gpt", "temperature": 0}, api=True),
        Entry("Asks-Again", "GPT4V", {"model": "gpt", "temperature": 0}, api=True),
        Entry("Loop-1B", "Chat", {"model_path": "org/Loop-1B"}, "org/Loop-1B", ("nested",)),
        Entry("Loop-2B", "Chat", {"model_path": "org/Loop-2B"}, "org/Loop-2B", ("nested",)),
        Entry("Computed", ""),
    ]
    assert not (tmp_path / "written.txt").exists()
    assert "READ" not in os.environ
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1", "has no supported_VLM"),
        ("supported_VLM = {}", "has no supported_VLM"),
        ("supported_VLM = {", "cannot be read: '{' was never closed"),
        ("import torch\nx = int(torch.cuda.memory())", "cannot be read: TypeError: int"),
        ("def f(n):\n    return f(n)\nf(1)", "cannot be read: RecursionError"),
        ("raise SystemExit('no GPU')", "cannot be read: SystemExit: no GPU"),
        (None, "cannot be read: .*No such file"),
    ],
)
def test_a_registry_that_cannot_be_read_is_named(
    tmp_path: Path, text: str | None, told: str
) -> None:
    files = {} if text is None else {"vlmeval/config.py": text}
    package = checkout(tmp_path, "vlmevalkit", files)
    with pytest.raises(EasiError, match=f"config.py {told}") as error:
        catalog.vlmeval_entries(package)
    assert error.value.hint
    assert "\n" not in error.value.message + error.value.hint


def test_a_checkouts_version_follows_its_contents(tmp_path: Path) -> None:
    package = checkout(tmp_path, "vlmevalkit", {"vlmeval/config.py": CONFIG})
    before = package.version
    assert before.startswith("9.9+")
    (package.root / "__pycache__").mkdir()
    (package.root / "__pycache__" / "x.py").write_text("")
    (package.root / "picture.png").write_bytes(b"")
    catalog.content_digest.cache_clear()
    assert package.version == before
    (package.root / "config.py").write_text(CONFIG.replace("Plain-7B", "Plain-8B"))
    catalog.content_digest.cache_clear()
    assert package.version != before


@pytest.mark.parametrize("below", [".", "vlmeval", "src"])
def test_a_checkout_is_found_by_its_root_its_src_or_itself(tmp_path: Path, below: str) -> None:
    checkout(tmp_path / "src" if below == "src" else tmp_path, "vlmevalkit", {})
    assert locate(KIT, tmp_path if below == "src" else tmp_path / below).root.name == "vlmeval"


def test_installed_packages_are_found_with_their_versions() -> None:
    from importlib.metadata import version

    for kind in BACKEND_FACTS.values():
        package = locate(kind)
        assert (package.version, package.checkout) == (version(kind.distribution), False)


# ---- lmms-eval -----------------------------------------------------------------------------------


def test_model_types_of_a_fork(tmp_path: Path) -> None:
    package = checkout(
        tmp_path,
        "lmms-eval",
        {
            "lmms_eval/models/__init__.py": (
                'AVAILABLE_SIMPLE_MODELS = {"llava": "Llava", "both": "Both"}\n'
                'AVAILABLE_CHAT_TEMPLATE_MODELS: dict = {"both": "BothChat", '
                '"far": "somewhere.else_.Far"}\n'
                'MODEL_ALIASES = {"both": ("twin",)}\n'
            )
        },
    )
    found = catalog.lmms_models(package).models
    both = LmmsModel(
        "both", "both", "lmms_eval.models.simple.both.Both", "lmms_eval.models.chat.both.BothChat"
    )
    assert found["both"] == both
    assert found["twin"] == LmmsModel("twin", "both", both.simple, both.chat)
    assert both.cls == both.chat
    assert found["llava"].cls == "lmms_eval.models.simple.llava.Llava"
    assert found["far"].cls == "somewhere.else_.Far"


def test_manifests_of_a_plug_in(tmp_path: Path) -> None:
    path = tmp_path / "plugin.py"
    path.write_text(
        "from lmms_eval.models.registry_v2 import ModelManifest\nimport x\n"
        "def manifests():\n"
        '    return [ModelManifest("a", chat_class_path="p.A", aliases=("b",)),\n'
        '            x.ModelManifest(model_id="c", simple_class_path="p.C"), '
        "ModelManifest(model_id=compute())]\n"
    )
    assert read_manifests(path) == [
        LmmsModel("a", "a", "", "p.A"),
        LmmsModel("b", "a", "", "p.A"),
        LmmsModel("c", "c", "p.C"),
    ]


# ---- the installed backends ----------------------------------------------------------------------


def test_the_installed_registry_of_vlmevalkit() -> None:
    entries = catalog.vlmeval_entries(locate(KIT))
    assert len(entries) >= 500
    assert entries["Qwen2.5-VL-7B-Instruct"].model_path == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert entries["Qwen2.5-VL-7B-Instruct"].kwargs["min_pixels"] == 1280 * 28 * 28
    assert entries["InternVL3-8B"].cls == "InternVLChat"
    assert entries["SmolVLM2"].model_path.startswith("HuggingFaceTB/SmolVLM2")
    assert entries["GPT4o"].api
    assert not entries["InternVL3-8B"].api
    nothing_read = [entry.name for entry in entries.values() if not entry.cls]
    assert nothing_read == []
    assert sum(bool(entry.unread) for entry in entries.values()) <= 10


def test_the_installed_types_of_lmms_eval() -> None:
    models = catalog.lmms_models(locate(LMMS)).models
    assert len(models) >= 120
    assert models["qwen2_5_vl"].cls == "lmms_eval.models.chat.qwen2_5_vl.Qwen2_5_VL"
    assert models["openai_compatible"].model_id == "openai"


def test_reading_names_imports_no_backend() -> None:
    code = (
        "import sys\n"
        "from easi_eval.backends.shared import catalog\n"
        "from easi_eval.core.backend_facts import BACKEND_FACTS\n"
        "kit, lmms = (catalog.locate(kind) for kind in BACKEND_FACTS.values())\n"
        "catalog.vlmeval_entries(kit), catalog.lmms_models(lmms)\n"
        "print({'torch', 'pandas', 'yaml', 'vlmeval', 'lmms_eval'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


def test_unknown_names_are_refused_with_the_nearest() -> None:
    check_known("--model", "qwen3_vl", ["qwen3_vl"], "")
    with pytest.raises(EasiError, match="--model qwen3vl") as error:
        check_known("--model", "qwen3vl", ["llava", "qwen3_vl", "qwen2_5_vl"], "see --list")
    assert error.value.hint.startswith("did you mean qwen3_vl")
    with pytest.raises(EasiError) as error:
        check_known("--model", "zzz", ["llava"], "see the list")
    assert error.value.hint == "see the list"
