"""Places, atomic files, identities and fingerprints, the manifest, the lock."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from easi_eval.config import RunConfig
from easi_eval.core.atomic_files import read_json, write_atomic, write_json
from easi_eval.core.errors import EasiError
from easi_eval.core.locks import process_start
from easi_eval.core.manifest import BenchmarkState, Manifest, other_runs
from easi_eval.core.model import ModelChoice
from easi_eval.core.run_folder import RunPaths, sanitise
from easi_eval.core.run_lock import owner_alive, run_lock
from easi_eval.run.identity import differing_fields, fingerprint, identity, identity_fields

CFG = RunConfig(model="m", model_args="max_pixels=100,x=1")
MODEL = ModelChoice(
    "org/m",
    "org/m",
    "Chat",
    "registered",
    revision="abc",
    arguments={"min_pixels": 1, "flags": [1, 2]},
)


def of(
    cfg: RunConfig = CFG,
    model: ModelChoice = MODEL,
    backend: str = "vlmevalkit",
    version: str = "1",
) -> str:
    return identity(backend, version, model, cfg)


# ---- identity ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"nproc": 8},
        {"no_accelerate": True},
        {"verbose": True},
        {"no_rich": True},
        {"plain": True},
        {"limit": 3},
        {"output_dir": Path("/x")},
        {"dataset_dir": Path("/x")},
        {"rerun": True},
        {"dry_run": True},
        {"benchmarks": ("blink",)},
        {"include_extra": True},
        {"backend_args": ("--reuse", "--api-nproc", "8")},
        {"device": "cuda"},
        {"judge": "gpt-4o-1120"},
        {"model_args": "x=1, max_pixels=100,"},
    ],
    ids=str,
)
def test_what_changes_no_answer_keeps_the_identity(changes: dict[str, object]) -> None:
    assert of(replace(CFG, **changes)) == of()


@pytest.mark.parametrize(
    "changes",
    [
        {"model_args": "max_pixels=200,x=1"},
        {"device": "cpu"},
        {"trust_remote_code": True},
        {"backend_args": ("--x",)},
        {"smoke": True},
    ],
    ids=str,
)
def test_what_changes_answers_changes_the_identity(changes: dict[str, object]) -> None:
    assert of(replace(CFG, **changes)) != of()


@pytest.mark.parametrize(
    "model",
    [
        replace(MODEL, path="org/n"),
        replace(MODEL, revision="abd"),
        replace(MODEL, cls="Other"),
        replace(MODEL, arguments={"min_pixels": 2, "flags": [1, 2]}),
        replace(MODEL, arguments={}),
    ],
)
def test_another_model_is_another_identity(model: ModelChoice) -> None:
    assert of(model=model) != of()


def test_the_backend_and_its_version_change_the_identity() -> None:
    assert len({of(), of(version="2"), of(backend="lmms-eval")}) == 3


def test_why_a_model_was_chosen_and_key_order_do_not_matter() -> None:
    other = replace(
        MODEL,
        why="another sentence",
        notes=("n",),
        arguments=dict(reversed(MODEL.arguments.items())),
    )
    assert of(model=other) == of()
    assert len(of()) == 64


def test_fingerprints_follow_identity_and_settings() -> None:
    assert fingerprint("a", {"task": "x", "n": 1}) == fingerprint("a", {"n": 1, "task": "x"})
    assert (
        len(
            {
                fingerprint("a", {"task": "x"}),
                fingerprint("b", {"task": "x"}),
                fingerprint("a", {"task": "y"}),
            }
        )
        == 3
    )


def test_what_is_not_json_is_refused_in_an_identity() -> None:
    with pytest.raises(TypeError):
        of(model=replace(MODEL, arguments={"f": object()}))


@pytest.mark.parametrize(
    ("cfg", "model", "names"),
    [
        (CFG, MODEL, []),
        (
            replace(CFG, model_args="max_pixels=200,y=1"),
            MODEL,
            ["--model-args max_pixels", "--model-args x", "--model-args y"],
        ),
        (
            replace(CFG, trust_remote_code=True, device="cpu"),
            MODEL,
            ["--device", "--trust-remote-code"],
        ),
        (
            CFG,
            replace(MODEL, revision="new", arguments={"min_pixels": 1, "flags": (1, 2)}),
            ["revision"],
        ),
    ],
)
def test_differing_settings_are_named(cfg: RunConfig, model: ModelChoice, names: list[str]) -> None:
    # as read from a manifest
    old = json.loads(json.dumps(identity_fields("vlmevalkit", "1", MODEL, CFG)))
    assert differing_fields(old, identity_fields("vlmevalkit", "1", model, cfg)) == names


# ---- places --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen__Qwen2.5-VL-7B-Instruct"),
        ("/a b/模型/", "a_b__模型"),
        ("../../etc", "__..__etc"),
        ("..", "model"),
        ("", "model"),
        ("a\n\0b:c*", "a_b_c_"),
        ("x" * 300, "x" * 100),
    ],
)
def test_folder_names(name: str, folder: str) -> None:
    assert sanitise(name) == folder


def test_paths_of_a_run() -> None:
    paths = RunPaths.of(Path("out"), "lmms-eval", "org/m", "0123456789abcdef")
    assert paths.root == Path("out/runs/lmms-eval/org__m-01234567")
    assert paths.work.name == "work.json"
    assert paths.manifest == paths.root / "run_manifest.json"
    assert paths.lock.name == "run.lock"
    assert paths.output("blink") == paths.root / "outputs" / "blink"
    assert paths.aside("blink", 1) != paths.aside("blink", 2)
    assert (paths.journal.name, paths.items.name) == ("journal", "items")


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [{"a": [1, 2.5, None, "ü 模 \x00 \u2028"]}, {"lone": "\ud800x"}, [], "x" * 100_000],
    ids=range(4),
)
def test_json_survives(tmp_path: Path, value: object) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, value)
    assert read_json(path) == value
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"score": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(EasiError, match="cannot be written"):
        write_atomic(tmp_path / "file" / "below", "y")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(EasiError, match="folder cannot be written"):
        write_atomic(folder, "y")  # os.replace refuses; the temporary file must be gone
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_kill_at_any_instant_leaves_one_whole_version(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    code = (
        "import sys; from pathlib import Path; from easi_eval.core.atomic_files import write_json\n"
        "print('go', flush=True); n = 0\n"
        f"while True: write_json(Path({str(path)!r}), dict(n=n, pad='x' * 200_000)); n += 1"
    )
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            while not path.exists():
                pass
            writer.kill()
        assert len(read_json(path)["pad"]) == 200_000


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        (b'{"a": 1', "is damaged"),
        (b"", "is damaged"),
        (b"\xff\xfe", "is damaged"),
    ],
)
def test_damaged_json_is_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EasiError, match=says) as error:
        read_json(path)
    assert str(path) in error.value.message


# ---- manifest ------------------------------------------------------------------------------------

MANIFEST = Manifest(
    identity=of(),
    fields=identity_fields("vlmevalkit", "1", MODEL, CFG),
    modelName="org/m",
    model={"cls": "Chat"},
    versions={"easi": "0"},
    commands=["easi-eval --model m"],
    revisions={"a/b": "main"},
    notes=["n"],
    benchmarks={
        "blink": BenchmarkState("f" * 64, 2, "complete", "", {"task": "BLINK"}, {"rows": 19})
    },
)


def test_manifest_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "run_manifest.json"
    assert Manifest.load(path) is None
    MANIFEST.save(path)
    assert Manifest.load(path) == MANIFEST


def test_no_secret_of_the_environment_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_PASSWORD", "never-show-this")
    replace(MANIFEST, commands=["run --x never-show-this"], notes=["never-show-this"]).save(
        tmp_path / "m.json"
    )
    assert "never-show-this" not in (tmp_path / "m.json").read_text()
    assert Manifest.load(tmp_path / "m.json").commands == ["run --x [redacted]"]


def test_a_changed_state_leaves_the_others() -> None:
    changed = MANIFEST.with_state("blink", state="failed", reason="because")
    assert changed.benchmarks["blink"] == replace(
        MANIFEST.benchmarks["blink"], state="failed", reason="because"
    )
    assert MANIFEST.benchmarks["blink"].state == "complete"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 99}, "has schema 99"),
        ({"schema": None}, "has schema None"),
        ({"benchmarks": None}, "is damaged"),
        ({"surprise": 1}, "is damaged"),
        ({"benchmarks": {"blink": {"epoch": 1}}}, "is damaged"),
    ],
)
def test_manifests_of_other_making_are_refused(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    path = tmp_path / "run_manifest.json"
    MANIFEST.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(EasiError, match=says):
        Manifest.load(path)


def test_a_cut_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run_manifest.json"
    MANIFEST.save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(EasiError, match="is damaged"):
        Manifest.load(path)


def test_other_identities_of_the_same_model_are_found(tmp_path: Path) -> None:
    def run(name: str, number: str) -> RunPaths:
        paths = RunPaths.of(tmp_path, "vlmevalkit", name, number * 8)
        replace(MANIFEST, identity=number * 64, modelName=name).save(paths.manifest)
        return paths

    mine, damaged = run("org/m", "1"), run("org/m", "4")
    run("org/m", "2"), run("org/m-x", "3")
    damaged.manifest.write_text("{")
    assert [manifest.identity[0] for manifest in other_runs(mine, "org/m")] == ["2"]


# ---- lock ----------------------------------------------------------------------------------------

HOLD = """import sys, time
from pathlib import Path
from easi_eval.core.run_lock import run_lock
with run_lock(Path(sys.argv[1]), *map(float, sys.argv[2:])):
    print('held', flush=True)
    sys.stdin.readline()
"""


def hold(path: Path, *seconds: str) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), *seconds],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_run_is_refused_and_told_the_pid(tmp_path: Path) -> None:
    path = tmp_path / "run" / "run.lock"
    with hold(path) as holder:
        with (
            pytest.raises(EasiError, match=f"in use by process {holder.pid} on ") as error,
            run_lock(path),
        ):
            pytest.fail("two runs hold one lock")
        assert str(path.parent) in error.value.message
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.wait() == 0
    with run_lock(path):
        pass


def test_the_lock_of_a_killed_run_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with hold(path) as holder:
        holder.kill()
    assert str(holder.pid) in path.read_text()
    with run_lock(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def elsewhere(path: Path, sign: int = 1) -> None:
    """What a run on another machine has in the file, whose lock is not seen from here."""
    owner = {"pid": 7, "host": "nodea", "started": "1", "sign": f"{sign:08}"}
    path.touch()
    with path.open("r+") as file:  # in place, as the program does
        file.write(json.dumps(owner).ljust(200))


def test_a_silent_run_of_another_machine_is_taken_over(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.lock"
    elsewhere(path)
    with run_lock(path, silent=0.5):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert "names process 7 on nodea; waiting 0.5 s for a sign of it" in capfd.readouterr().err


def test_a_living_run_of_another_machine_refuses_a_second_one(tmp_path: Path) -> None:
    path, over = tmp_path / "run.lock", threading.Event()
    elsewhere(path)

    def live() -> None:
        number = 1
        while not over.wait(0.1):
            elsewhere(path, number := number + 1)

    other = threading.Thread(target=live)
    other.start()
    try:
        with pytest.raises(EasiError, match="process 7 on nodea") as error, run_lock(path):
            pytest.fail("two runs hold one lock")
    finally:
        over.set()
        other.join()
    assert error.value.hint.endswith(f"if nodea is gone for good, delete {path}")


def test_a_run_gives_signs_and_notices_that_it_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with hold(path, "0.1") as holder:
        first = json.loads(path.read_text())
        while (now := json.loads(path.read_text())) == first:
            time.sleep(0.05)
        assert {**now, "sign": ""} == {**first, "sign": ""} and now["pid"] == holder.pid
        elsewhere(path)
        assert holder.wait(60) == -signal.SIGTERM
        assert "another machine took this run over" in holder.stderr.read()


def test_a_lock_survives_the_exception_of_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with pytest.raises(KeyError), run_lock(path):
        raise KeyError
    with hold(path) as holder:
        holder.kill()


def test_a_place_that_takes_no_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(EasiError, match="cannot be written"),
        run_lock(tmp_path / "file" / "run.lock"),
    ):
        pytest.fail("locked")


def test_process_start_tells_processes_apart() -> None:
    assert process_start(os.getpid()) == process_start(os.getpid()) != ""
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    assert process_start(gone.pid) == ""


@pytest.mark.parametrize(
    ("changes", "alive"),
    [
        ({}, True),
        ({"started": "1"}, False),  # a later process with the same pid
        ({"pid": 2**22 + 1, "started": ""}, False),  # no such process
        ({"host": "elsewhere", "pid": 2**22 + 1}, True),
    ],
)
def test_where_no_lock_exists_the_written_owner_decides(
    changes: dict[str, object], alive: bool
) -> None:
    me = {"pid": os.getpid(), "host": socket.gethostname(), "started": process_start(os.getpid())}
    assert owner_alive({**me, **changes}) is alive
    assert not owner_alive({})
