"""Model classes that the user drops into a folder: found by name, read and never imported."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from easi_eval.backends.vlmevalkit import own_classes
from easi_eval.backends.vlmevalkit.backend import VLMEvalKit
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.core.model import ModelChoice
from easi_eval.data.needs import HubSettings
from easi_eval.run.identity import identity

MINE = """
    import torch_that_is_not_installed
    from .base import BaseModel

    class MyVLM(BaseModel):
        def __init__(self, model_path="org/mine", temperature=0.3, **kwargs):
            self.kwargs = kwargs

        def generate_inner(self, message, dataset=None):
            return "A"
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "own-models-cache"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "vlm").mkdir()
    return tmp_path / "vlm"


def write(own: Path, name: str, text: str) -> Path:
    path = own / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def resolve(own: Path, model: str, **options: object) -> ModelChoice:
    return VLMEvalKit(HubSettings(hf_home=own.parent / "hf", offline=True), own).resolve(
        RunConfig(model=model, **options)
    )


def refusal(own: Path, model: str, **options: object) -> EasiError:
    with pytest.raises(EasiError) as error:
        resolve(own, model, **options)
    return error.value


@pytest.mark.parametrize("wanted", ["MyVLM", "my_file", "my_file.py", "my_file.MyVLM"])
def test_by_class_file_or_both(own: Path, wanted: str) -> None:
    path = write(own, "my_file.py", MINE)
    model = resolve(own, wanted)
    assert (model.cls, model.name, model.path, model.entry, model.arguments) == (
        "my_file.MyVLM",
        "org/mine",
        "org/mine",
        "",
        {},
    )
    assert model.why == f"a class of your own, in {path}"
    assert any(
        note.startswith("sampling: temperature=0.3 (defaults of my_file.MyVLM)")
        for note in model.notes
    )
    assert (model.needs_gpu, resolve(own, wanted, device="cpu").needs_gpu) == (True, False)
    # the generic class never takes its place
    assert resolve(own, wanted, device="cpu").cls == "my_file.MyVLM"


def test_the_checkpoint_is_the_users_or_the_classs_own(own: Path) -> None:
    write(own, "a.py", MINE)
    model = resolve(own, "MyVLM", model_args="model_path=you/yours,temperature=1")
    assert (model.path, model.name, model.arguments) == (
        "you/yours",
        "you/yours",
        {"model_path": "you/yours", "temperature": 1},
    )
    kit = VLMEvalKit(HubSettings(hf_home=own.parent))
    assert [need.repo for need in kit.weights(model)] == ["you/yours"]
    here = kit.localise(resolve(own, "MyVLM"), "org/mine", own)
    assert (here.path, here.arguments["model_path"]) == (str(own), str(own))


def test_a_class_without_a_checkpoint(own: Path) -> None:
    write(
        own,
        "b.py",
        "from .base import BaseModel\nclass Rule(BaseModel):\n    def __init__(self):\n"
        "        pass\n",
    )
    model = resolve(own, "Rule")
    assert (model.name, model.path, model.arguments, model.revision) == ("Rule", "b.Rule", {}, "")
    assert VLMEvalKit(HubSettings(hf_home=own.parent)).weights(model) == []
    write(
        own,
        "c.py",
        "from .base import BaseModel\nclass Needs(BaseModel):\n"
        "    def __init__(self, model_path):\n        pass\n",
    )
    error = refusal(own, "Needs")
    assert "needs a model_path" in error.message and "--model-args model_path=" in error.hint
    assert "takes no such argument" in refusal(own, "Rule", model_args="size=1").message


def test_what_derives_from_a_class_of_vlmevalkit(own: Path) -> None:
    write(
        own,
        "d.py",
        """
        from vlmeval.vlm.qwen2_vl import Qwen2VLChat
        from .base import BaseModel
        class Mixin:
            pass
        class Mine(Mixin, Qwen2VLChat):
            VIDEO_LLM = True
    """,
    )
    model = resolve(own, "d", model_args="model_path=org/m")
    assert model.cls == "d.Mine"
    assert any("Mine asks for flash_attention_2" in note for note in model.notes)
    assert any("top_k=1" in note and note.startswith("sampling") for note in model.notes)
    assert own_classes.find(package(own), "Mixin") is None


def package(own: Path) -> own_classes.Package:
    from dataclasses import replace

    from easi_eval.backends.shared.catalog import locate
    from easi_eval.core.backend_facts import BACKEND_FACTS

    return replace(locate(BACKEND_FACTS["vlmevalkit"]), own=own)


def test_a_file_with_several_classes(own: Path) -> None:
    write(
        own,
        "e.py",
        "from .base import BaseModel\nclass One(BaseModel):\n    pass\nclass Two(BaseModel):\n"
        "    pass\n",
    )
    error = refusal(own, "e")
    assert "may mean 2 classes" in error.message and error.hint == "name one: e.One, e.Two"
    assert resolve(own, "Two").cls == "e.Two"
    write(
        own,
        "f.py",
        "from .base import BaseModel\nclass Root(BaseModel):\n    pass\nclass Leaf(Root):\n"
        "    pass\n",
    )
    assert resolve(own, "f").cls == "f.Leaf"
    assert resolve(own, "f.Root").cls == "f.Root"
    write(own, "g.py", "from .base import BaseModel\nclass Two(BaseModel):\n    pass\n")
    assert refusal(own, "Two").hint == "name one: e.Two, g.Two"


def test_a_folder_as_a_fork_has_it(own: Path) -> None:
    write(own, "deep/__init__.py", "from .model import Deep\n")
    write(
        own,
        "deep/model.py",
        "from ..base import BaseModel\nclass Deep(BaseModel):\n"
        "    def __init__(self, model_path='o/deep'):\n        pass\n",
    )
    assert (resolve(own, "deep").cls, resolve(own, "Deep").path) == ("deep.Deep", "o/deep")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("class A:\n    pass\n", "has no class that derives from VLMEvalKit's BaseModel"),
        ("def broken(:\n", "cannot be read"),
    ],
)
def test_a_file_that_is_no_model_is_refused(own: Path, text: str, what: str) -> None:
    write(own, "bad.py", text)
    assert what in refusal(own, "bad").message
    write(own, "good.py", MINE)
    assert resolve(own, "MyVLM").cls == "good.MyVLM"  # the other file is no obstacle


def test_a_file_that_python_would_never_load_is_refused(own: Path) -> None:
    write(own, "smolvlm.py", MINE)
    for wanted in ("smolvlm", "smolvlm.MyVLM"):
        error = refusal(own, wanted)
        assert (
            "VLMEvalKit has its own module smolvlm" in error.message
            and error.hint == "give the file another name"
        )


def test_a_name_of_the_registry_goes_first(own: Path) -> None:
    write(own, "h.py", "from .base import BaseModel\nclass SmolVLM2(BaseModel):\n    pass\n")
    assert resolve(own, "SmolVLM2").entry == "SmolVLM2"
    assert resolve(own, "h").cls == "h.SmolVLM2"


def test_a_checkpoints_folder_goes_before_a_file_of_that_name(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(own, "mine.py", MINE)
    (own.parent / "mine").mkdir()
    monkeypatch.chdir(own.parent)
    assert resolve(own, "mine").cls == "mine.MyVLM"
    (own.parent / "mine" / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    assert resolve(own, "mine").cls == "Qwen2VLChat"


def test_a_misspelt_class_is_suggested(own: Path) -> None:
    write(own, "i.py", MINE)
    assert "MyVLM" in refusal(own, "MyVML").hint


def test_the_files_content_is_part_of_the_identity(own: Path) -> None:
    path = write(own, "j.py", MINE + "\n    from .helper import words\n")
    helper = write(own, "helper.py", "words = 1\n")
    write(own, "unrelated.py", "x = 1\n")

    def mark() -> str:
        model, cfg = resolve(own, "MyVLM"), RunConfig(model="MyVLM")
        return identity("vlmevalkit", "1", model, cfg)

    first = mark()
    (own / "unrelated.py").write_text("x = 2\n")
    assert mark() == first
    helper.write_text("words = 2\n")
    second = mark()
    path.write_text(path.read_text() + "\n# changed\n")
    assert len({first, second, mark()}) == 3


def test_a_class_that_asks_a_server(own: Path) -> None:
    write(
        own,
        "k.py",
        "from ..api.base import BaseAPI\nclass Remote(BaseAPI):\n"
        "    def __init__(self, model='m', **kwargs):\n        super().__init__(**kwargs)\n",
    )
    model = resolve(own, "Remote")
    assert (model.cls, model.served, model.needs_gpu, model.name) == (
        "k.Remote",
        True,
        False,
        "Remote",
    )


def test_the_folder_may_lie_elsewhere(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(own, "l.py", MINE)
    assert own_classes.folder({}).parts[-3:] == ("VLMEvalKit", "vlmeval", "vlm")
    monkeypatch.setenv(own_classes.VARIABLE, str(own))
    assert (
        VLMEvalKit(HubSettings(hf_home=own.parent, offline=True))
        .resolve(RunConfig(model="MyVLM"))
        .cls
        == "l.MyVLM"
    )
