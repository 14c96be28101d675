"""Incomplete weights are refused before anything starts.

They are refused exactly where transformers would fail on them.
"""

from __future__ import annotations

import json
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from checkpoints import BUILDERS, adapter
from easi_eval.backends.lmms_eval.backend import LmmsEval
from easi_eval.backends.shared import damaged
from easi_eval.backends.shared.damaged import ENGINE_SETS, damage
from easi_eval.backends.vlmevalkit.backend import VLMEvalKit
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.data.needs import HubSettings

torch.set_num_threads(1)
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123456\n"
ONE, INDEX, BIN = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same tiny model as it is saved in four ways."""
    root = tmp_path_factory.mktemp("whole")
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=64,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
    )
    for name, options in {
        "one": {},
        "shards": {"max_shard_size": "4KB"},
        "bin": {"safe_serialization": False},
        "bins": {"safe_serialization": False, "max_shard_size": "4KB"},
    }.items():
        model.save_pretrained(root / name, **options)
    return {path.name: path for path in root.iterdir()}


def cut(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) * 2 // 3])


def shard(folder: Path, ending: str = "safetensors") -> Path:
    return sorted(folder.glob(f"*-00002-of-*.{ending}"))[0]


def leftovers(folder: Path) -> None:
    """What lies beside a whole model.safetensors in many folders and is not loaded."""
    (folder / INDEX).write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}})
    )
    (folder / BIN).write_text(LFS)
    (folder / "consolidated.safetensors").write_bytes(b"")
    (folder / "model.fp16.safetensors").write_bytes(b"x" * 50)
    (folder / "rust_model.ot").write_text(LFS)
    shutil.copytree(folder, folder / "checkpoint-7")
    cut(folder / "checkpoint-7", ONE)


def lengthen(folder: Path) -> None:
    with (folder / ONE).open("ab") as file:
        file.write(b"\0" * 100)


def dangling(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to("../../blobs/0123abcd")


# name: how it was saved, what became of it, and what is said (None: nothing, and it loads)
CASES: dict[str, tuple[str, Callable[[Path], object], str | None]] = {
    "whole": ("one", lambda folder: None, None),
    "whole shards": ("shards", lambda folder: None, None),
    "whole bin": ("bin", lambda folder: None, None),
    "whole bins": ("bins", lambda folder: None, None),
    "leftovers": ("one", leftovers, None),
    "a link": (
        "one",
        lambda folder: ((folder / ONE).rename(folder / "blob"), (folder / ONE).symlink_to("blob")),
        None,
    ),
    "bin beside a dangling link": (
        "bin",
        lambda folder: (folder / ONE).symlink_to("../blobs/1"),
        None,
    ),
    "cut": ("one", lambda folder: cut(folder, ONE), "model.safetensors is cut: "),
    "cut in its header": (
        "one",
        lambda folder: (folder / ONE).write_bytes((folder / ONE).read_bytes()[:100]),
        "its header alone has",
    ),
    "lengthened": ("one", lengthen, "model.safetensors is damaged: "),
    "empty": ("one", lambda folder: (folder / ONE).write_bytes(b""), "model.safetensors is empty"),
    "a pointer": ("one", lambda folder: (folder / ONE).write_text(LFS), "is a Git LFS pointer"),
    "zeros": (
        "one",
        lambda folder: (folder / ONE).write_bytes(b"\0" * 4096),
        "no header of a safetensors file",
    ),
    "a page of a proxy": (
        "one",
        lambda folder: (folder / ONE).write_text("<html>" * 100),
        "no header of a safetensors file",
    ),
    "dangling": (
        "one",
        lambda folder: dangling(folder, ONE),
        "is a link to ../../blobs/0123abcd, which is not there",
    ),
    "cut beside a whole bin": (
        "one",
        lambda folder: ((folder / BIN).write_bytes(b"PK"), cut(folder, ONE)),
        "model.safetensors is cut: ",
    ),
    "shard missing": (
        "shards",
        lambda folder: shard(folder).unlink(),
        "of them is not there: model-00002-of-",
    ),
    "shard dangling": (
        "shards",
        lambda folder: dangling(folder, shard(folder).name),
        "of them is not there: model-00002-of-",
    ),
    "shard cut": (
        "shards",
        lambda folder: cut(folder, shard(folder).name),
        ".safetensors is cut: ",
    ),
    "shard empty": (
        "shards",
        lambda folder: shard(folder).write_bytes(b""),
        ".safetensors is empty",
    ),
    "index cut": ("shards", lambda folder: cut(folder, INDEX), "cannot be read as a list"),
    "bin cut": ("bin", lambda folder: cut(folder, BIN), "pytorch_model.bin is cut: "),
    "bin empty": (
        "bin",
        lambda folder: (folder / BIN).write_bytes(b""),
        "pytorch_model.bin is empty",
    ),
    "bin a pointer": ("bin", lambda folder: (folder / BIN).write_text(LFS), "is a Git LFS pointer"),
    "bin shard missing": (
        "bins",
        lambda folder: shard(folder, "bin").unlink(),
        "of them is not there: pytorch_model-00002-of-",
    ),
    "bin shard cut": (
        "bins",
        lambda folder: cut(folder, shard(folder, "bin").name),
        ".bin is cut: ",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_where_transformers_fails_and_nowhere_else(
    whole: dict[str, Path], tmp_path: Path, case: str
) -> None:
    saved, harm, told = CASES[case]
    folder = shutil.copytree(whole[saved], tmp_path / "Mine", symlinks=True)
    harm(folder)
    wrong = damage(folder)
    try:
        loads = Qwen2ForCausalLM.from_pretrained(folder) is not None
    except Exception:  # each way to load raises something of its own
        loads = False
    assert loads == (told is None) == (wrong == []), wrong
    if told is not None:
        assert told in wrong[0] and wrong[0].startswith(str(folder))


def test_sizes_are_those_of_file_and_header(whole: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(whole["one"], tmp_path / "Mine")
    before = (folder / ONE).stat().st_size
    cut(folder, ONE)
    assert damage(folder) == [
        f"{folder / ONE} is cut: {before * 2 // 3:,} bytes are there, and its header says "
        f"{before:,}"
    ]


@pytest.mark.parametrize("build", BUILDERS)
def test_every_tiny_checkpoint_is_left_alone(tmp_path: Path, build: str) -> None:
    folder = BUILDERS[build](tmp_path / build)
    assert damage(folder) == damage(folder, ENGINE_SETS) == []
    cut(folder, ONE)
    assert "is cut" in damage(folder)[0]


def test_an_engine_reads_the_files_of_an_index(whole: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(whole["shards"], tmp_path / "Mine")
    (folder / ONE).write_bytes(b"")
    assert damage(folder, ENGINE_SETS) == [] and damage(folder) == [f"{folder / ONE} is empty"]


def test_weights_in_subfolders_count_where_there_are_no_others(
    whole: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "Parts"
    for part in ("llm", "vision_tower"):
        shutil.copytree(whole["one"], folder / part)
    (folder / "config.json").write_text("{}")
    assert damage(folder) == []
    cut(folder / "vision_tower", ONE)
    assert "vision_tower/model.safetensors is cut" in damage(folder)[0]
    shutil.copy(whole["one"] / ONE, folder)
    assert damage(folder) == [], "now the subfolder is a leftover"


def test_every_damaged_file_is_counted(whole: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(whole["shards"], tmp_path / "Mine")
    for path in sorted(folder.glob("model-*"))[:3]:
        cut(folder, path.name)
    with pytest.raises(
        EasiError, match=r"00001-of-\d+\.safetensors is cut: .*; 2 more of its files are damaged"
    ):
        backend_check(folder, tmp_path, "lmms-eval")


def backend_check(folder: Path, tmp_path: Path, backend: str, **arguments: str) -> None:
    """What the program asks before it starts anything."""
    hub = HubSettings(hf_home=tmp_path / "hf", offline=True)
    kit = VLMEvalKit(hub) if backend == "vlmevalkit" else LmmsEval(hub)
    args = ",".join(f"{key}={value}" for key, value in arguments.items())
    cfg = (
        RunConfig(model=str(folder), model_args=args)
        if backend == "vlmevalkit"
        else RunConfig(
            model="qwen2_5_vl",
            backend=backend,
            model_args=",".join(filter(None, [f"pretrained={folder}", args])),
        )
    )
    damaged.check(kit.resolve(cfg))


@pytest.mark.parametrize("backend", ["vlmevalkit", "lmms-eval"])
def test_both_backends_refuse_an_adapter_and_its_base(tmp_path: Path, backend: str) -> None:
    base = BUILDERS["qwen2_5_vl"](tmp_path / "Base")
    folder = adapter(base, tmp_path / "Mine")
    backend_check(folder, tmp_path, backend)
    cut(base, ONE)
    with pytest.raises(EasiError, match="Base/model.safetensors is cut") as error:
        backend_check(folder, tmp_path, backend)
    assert "copy or download" in error.value.hint
    BUILDERS["qwen2_5_vl"](base)
    (folder / "adapter_model.safetensors").write_text(LFS)
    with pytest.raises(EasiError, match="adapter_model.safetensors is a Git LFS pointer") as error:
        backend_check(folder, tmp_path, backend)
    assert "git lfs pull" in error.value.hint


def test_a_tower_in_a_folder_of_its_own_is_looked_at(
    whole: dict[str, Path], tmp_path: Path
) -> None:
    tower = shutil.copytree(whole["one"], tmp_path / "Tower")
    folder = BUILDERS["qwen2_5_vl"](tmp_path / "Mine")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "mm_vision_tower": str(tower)}))
    backend_check(folder, tmp_path, "lmms-eval")
    cut(tower, ONE)
    with pytest.raises(EasiError, match="Tower/model.safetensors is cut"):
        backend_check(folder, tmp_path, "lmms-eval")


def test_a_hundred_shards_are_looked_at_in_no_time(tmp_path: Path) -> None:
    """Sparse files of a gigabyte: nothing but their headers is read."""
    names = [f"model-{number:05}-of-00100.safetensors" for number in range(1, 101)]
    header = json.dumps(
        {
            f"layer.{number}.weight": {
                "dtype": "F16",
                "shape": [5_000_000],
                "data_offsets": [number * 10**7, (number + 1) * 10**7],
            }
            for number in range(100)
        }
    ).encode()
    for name in names:
        with (tmp_path / name).open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + 10**9)
    (tmp_path / INDEX).write_text(
        json.dumps({"weight_map": {f"{name}.weight": name for name in names}})
    )
    began = time.process_time()
    assert damage(tmp_path) == []
    assert time.process_time() - began < 0.5


def test_the_older_format_of_torch_is_left_alone(whole: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(whole["bin"], tmp_path / "Mine")
    torch.save(torch.load(folder / BIN), folder / BIN, _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(folder / BIN) and damage(folder) == []
