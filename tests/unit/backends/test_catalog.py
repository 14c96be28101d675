"""Names read from the backends' files, in small packages made here and in the installed ones.

The installed packages are never imported.
"""

from __future__ import annotations

import ast
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
    read_vlmeval_config,
)
from easi_eval.backends.shared.literals import UNKNOWN, Dotted, Partial, read_module
from easi_eval.benchmarks import BENCHMARKS
from easi_eval.core.backend_facts import BACKEND_FACTS
from easi_eval.core.errors import EasiError
from easi_eval.core.places import cache_folder

KIT, LMMS = BACKEND_FACTS["vlmevalkit"], BACKEND_FACTS["lmms-eval"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# ---- the reader of literals ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x = 1280 * 28 * 28", 1280 * 784),
        ("x = 2**14 - -1", 16385),
        ("x = {'a': 1, **{'b': 2}} | dict(c=3)", {"a": 1, "b": 2, "c": 3}),
        ("A = 'o'\nx = f'{A}/m-{7}b'", "o/m-7b"),
        ("x = [*(1, 2), 3]\nx += [4]\nx.extend([5])", [1, 2, 3, 4, 5]),
        ("x = {}\nfor n in ['a', 'b']:\n    x[n] = n * 2", {"a": "aa", "b": "bb"}),
        ("x = {}\nfor n, s in {'a': 1}.items():\n    x.update({n: s})", {"a": 1}),
        (
            "x = {f'{a}{b}': b for a in 'pq' for b in (1, 2) if b > 1 or True}",
            {"p1": 1, "p2": 2, "q1": 1, "q2": 2},
        ),
        (
            "def f(names, ends=('x', 'y')):\n"
            "    out = {}\n"
            "    for n in names:\n"
            "        for e in ends:\n"
            "            out[n + e] = 1\n"
            "    return out\n"
            "x = f(['a'])",
            {"ax": 1, "ay": 1},
        ),
        (
            "class A:\n"
            "    D = {'p': 1}\n"
            "    @classmethod\n"
            "    def names(cls):\n"
            "        return list(cls.D)\n"
            "class B(A):\n    D = {'q': 1}\nx = A.names() + B.names()",
            ["p", "q"],
        ),
        ("try:\n    import nothing\n    x = 1\nexcept ImportError:\n    x = 2", 1),
        ("if somewhere.flag:\n    x = {'a': 1}\nelse:\n    y = 2", {"a": 1}),
        ("x = (1, 'a', None, True)[1:][0]", UNKNOWN),  # slices are not read
        ("import os\nx = os.environ.get('HOME', 'b')", UNKNOWN),
        ("x = open('/etc/passwd').read()", UNKNOWN),
        ("x = [1].append", UNKNOWN),
        ("x = 'a' + 1", UNKNOWN),
        ("x = {}['a']", UNKNOWN),
        ("def f(n):\n    return f(n)\nx = f(1)", UNKNOWN),
        ("x = lambda: 1", UNKNOWN),
        ("x = a.b.C", Dotted("a.b.C")),
        (
            "from functools import partial\nx = partial(vlm.C, p='a', **{'q': 1}, r=torch.float16)",
            Partial("vlm.C", {"p": "a", "q": 1, "r": Dotted("torch.float16")}),
        ),
        ("x = partial(partial(vlm.C, p=1, q=1), q=2)", Partial("vlm.C", {"p": 1, "q": 2})),
    ],
)
def test_literals(text: str, value: object) -> None:
    assert read_module(ast.parse(text))["x"] == value


# ---- packages ------------------------------------------------------------------------------------

CONFIG = """
from functools import partial
import copy as cp
import vlmeval.api as api, vlmeval.vlm as vlm
ROOT = None
PIXELS = 28 * 28
a = {
    "Plain-7B": partial(vlm.Chat, model_path="org/Plain-7B", min_pixels=4 * PIXELS, root=ROOT, sizes=(1, 2)),
    "Typed": partial(vlm.Chat, model_path=os.getenv("M", "org/x"), dtype=torch.bfloat16),
}
b = {"Asks": partial(api.GPT4V, model="gpt", temperature=0)}
b["Asks-Again"] = cp.deepcopy(b["Asks"])
for size in ("1B", "2B"):
    b[f"Loop-{size}"] = partial(vlm.Chat, model_path=f"org/Loop-{size}", nested={"k": [1, unknown]})
supported_VLM = {}
for group in [a, b]:
    supported_VLM.update(group)
supported_VLM["Computed"] = make()
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


def test_registry_entries_of_a_fork(tmp_path: Path) -> None:
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
        Entry("Asks", "GPT4V", {"model": "gpt", "temperature": 0}, api=True),
        Entry("Asks-Again", "GPT4V", {"model": "gpt", "temperature": 0}, api=True),
        Entry("Loop-1B", "Chat", {"model_path": "org/Loop-1B"}, "org/Loop-1B", ("nested",)),
        Entry("Loop-2B", "Chat", {"model_path": "org/Loop-2B"}, "org/Loop-2B", ("nested",)),
        Entry("Computed", ""),
    ]
    assert catalog.vlmeval_entries(package) == entries  # the second time from the cache


@pytest.mark.parametrize("text", ["x = 1", "supported_VLM = {}", "supported_VLM = {", None])
def test_a_registry_that_cannot_be_read_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "config.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(EasiError, match="config.py"):
        read_vlmeval_config(path)


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
    assert "Plain-8B" in catalog.vlmeval_entries(package)


@pytest.mark.parametrize("below", [".", "vlmeval", "src"])
def test_a_checkout_is_found_by_its_root_its_src_or_itself(tmp_path: Path, below: str) -> None:
    checkout(tmp_path / "src" if below == "src" else tmp_path, "vlmevalkit", {})
    assert locate(KIT, tmp_path if below == "src" else tmp_path / below).root.name == "vlmeval"


def test_installed_packages_are_found_with_their_versions() -> None:
    from importlib.metadata import version

    for kind in BACKEND_FACTS.values():
        package = locate(kind)
        assert (package.version, package.checkout) == (version(kind.distribution), False)


@pytest.mark.parametrize("damage", ["", "{", "3", "null"])
def test_a_damaged_cache_is_read_again(tmp_path: Path, damage: str) -> None:
    package = checkout(tmp_path, "vlmevalkit", {"vlmeval/config.py": CONFIG})
    entries = catalog.vlmeval_entries(package)
    [file] = cache_folder().iterdir()
    file.write_text(damage)
    assert catalog.vlmeval_entries(package) == entries


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    package = checkout(tmp_path, "vlmevalkit", {"vlmeval/config.py": CONFIG})
    assert "Plain-7B" in catalog.vlmeval_entries(package)


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


def test_task_names_of_a_fork(tmp_path: Path) -> None:
    package = checkout(
        tmp_path,
        "lmms-eval",
        {
            "lmms_eval/tasks/a/a.yaml": (
                'task: "one"   # said so\ntag: [t1, t2]\ndoc_to_text: !function utils.f\n'
            ),
            "lmms_eval/tasks/a/b.yaml": (
                '\ufeff"task": two\ngroup:\n  - g1\n  - g2\nother:\n  task: inner\n'
            ),
            "lmms_eval/tasks/c.yaml": "group: three\ntask:\n- one\n- elsewhere\n",
            "lmms_eval/tasks/_template": "task: never\n",
        },
    )
    assert catalog.lmms_tasks(package) == {"one", "t1", "t2", "two", "g1", "g2", "three"}


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


def test_every_task_of_our_registry_exists_in_the_installed_backends() -> None:
    tasks, datasets = catalog.lmms_tasks(locate(LMMS)), catalog.vlmeval_datasets(locate(KIT))
    assert len(tasks) >= 1500
    assert len(datasets) >= 600
    for bench in BENCHMARKS:
        assert bench.sources["lmms-eval"].task in tasks
        assert bench.sources["vlmevalkit"].task in datasets


def test_reading_names_imports_no_backend() -> None:
    code = (
        "import sys\n"
        "from easi_eval.backends.shared import catalog\n"
        "from easi_eval.core.backend_facts import BACKEND_FACTS\n"
        "kit, lmms = (catalog.locate(kind) for kind in BACKEND_FACTS.values())\n"
        "catalog.vlmeval_entries(kit), catalog.vlmeval_datasets(kit), "
        "catalog.lmms_models(lmms), catalog.lmms_tasks(lmms)\n"
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
