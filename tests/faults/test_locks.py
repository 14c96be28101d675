"""Runs on a file system without locks: Lustre without ``-o flock``, NFS without its lock daemon."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import Timeout

from easi_eval.backends.lmms_eval.backend import LmmsEval
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.core.locks import SOFT, file_lock, lacks_locks, unlocked
from easi_eval.core.model import ModelChoice
from easi_eval.data.fetch import fetch
from easi_eval.data.local_hub.server import LocalHub
from easi_eval.data.needs import HubSettings, Kind, Need, Unpack
from program import REPOSITORY, User

TAKEN_AWAY = REPOSITORY / "tests" / "no_locks"


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without locks; those beside it have them."""
    folder, flock = tmp_path / "lustre", fcntl.flock
    folder.mkdir()

    def refusing(file: Any, *args: Any) -> Any:
        if str(
            Path(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}").readlink()
        ).startswith(str(folder)):
            raise OSError(request.param, os.strerror(request.param))
        return flock(file, *args)

    monkeypatch.setattr(fcntl, "flock", refusing)
    return folder


def test_a_file_stands_for_the_lock_and_goes_with_it(place: Path, tmp_path: Path) -> None:
    path = place / "x.lock"
    path.touch()  # left by a real lock, on another machine
    with file_lock(path), pytest.raises(Timeout):
        file_lock(path).acquire(timeout=0.3)
    assert not Path(f"{path}{SOFT}").exists()
    assert not lacks_locks(tmp_path / "beside") and lacks_locks(place / "not" / "yet" / "there")


def test_what_a_killed_process_left_is_taken_over(place: Path) -> None:
    path = place / "x.lock"
    code = (
        "import os, sys; from filelock import SoftFileLock; "
        "lock = SoftFileLock(sys.argv[1]); lock.acquire(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, f"{path}{SOFT}"], check=False)
    assert Path(f"{path}{SOFT}").exists()
    with file_lock(path).acquire(timeout=5):
        assert Path(f"{path}{SOFT}").exists()


@pytest.mark.timeout(60)
def test_a_dead_holder_is_taken_over_where_files_cannot_be_exchanged(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS and some FUSE file systems refuse the exchange; filelock alone would wait forever."""
    monkeypatch.setattr("filelock._soft.exchange_names", lambda *names: False)
    path = place / "x.lock"
    code = (
        "import os, sys; from filelock import SoftFileLock; "
        "lock = SoftFileLock(sys.argv[1]); lock.acquire(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, f"{path}{SOFT}"], check=False)
    assert Path(f"{path}{SOFT}").exists()
    with file_lock(path, quiet=0.2):
        assert int(Path(f"{path}{SOFT}").read_text().split()[0]) == os.getpid()


@pytest.mark.timeout(60)
def test_a_holder_on_another_machine_is_named_and_given_up(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = place / "x.lock"
    Path(f"{path}{SOFT}").write_text("4711\nnode7\n")
    with pytest.raises(EasiError, match="process 4711 on node7") as refused:
        file_lock(path, patience=1, quiet=0.2).acquire()
    assert f"{path}{SOFT}" in refused.value.message
    assert refused.value.hint == "delete it if no run uses it"
    (said,) = capfd.readouterr().err.splitlines()
    assert said == f"waiting for {path}{SOFT}, locked by process 4711 on node7"


@pytest.mark.timeout(60)
def test_a_holder_on_another_machine_that_gives_signs_is_waited_for(place: Path) -> None:
    path = Path(f"{place / 'x.lock'}{SOFT}")
    path.write_text("4711\nnode7\n")

    def sign() -> None:
        for _ in range(6):
            time.sleep(0.5)
            os.utime(path)
        path.unlink()

    other = threading.Thread(target=sign)
    other.start()
    with file_lock(place / "x.lock", patience=1.5, quiet=0.2):
        other.join()
        with file_lock(place / "y.lock", sign=0.1):
            mine = Path(f"{place / 'y.lock'}{SOFT}")
            first = mine.stat().st_mtime_ns
            time.sleep(0.5)
            assert mine.stat().st_mtime_ns > first
    assert not list(place.iterdir())


@pytest.mark.timeout(60)
def test_a_holder_that_lives_is_waited_for(place: Path) -> None:
    path = place / "x.lock"
    code = (
        "import sys, time; from filelock import SoftFileLock\n"
        "with SoftFileLock(sys.argv[1]): print(flush=True); time.sleep(3)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, f"{path}{SOFT}"], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        began = time.monotonic()
        with file_lock(path, patience=0.5, quiet=0.2):
            assert time.monotonic() - began > 2
        assert holder.wait(timeout=20) == 0


@pytest.mark.timeout(60)
def test_data_are_fetched_and_unpacked_although_real_locks_left_files(
    place: Path, tmp_path: Path
) -> None:
    from test_datasets import zip_file

    served = tmp_path / "served" / "datasets" / "easi" / "tiny"
    served.mkdir(parents=True)
    (served / "Questions.tsv").write_text("index\n1\n")
    zip_file(served / "videos.zip", {"a.mp4": b"1" * 5000})
    needs = [
        Need(
            what="questions",
            repo="easi/tiny",
            kind=Kind.FILE,
            files=("Questions.tsv",),
            where=place / "data",
        ),
        Need(what="media", repo="easi/tiny", unpack=Unpack(into=place / "hf" / "videos")),
    ]
    with LocalHub(tmp_path / "served") as running:
        first = HubSettings(endpoint=running.endpoint, hf_home=tmp_path / "first", backoff=0.05)
        fetch([needs[1]], lambda event: None, first)
        left = [path.relative_to(first.hf_home) for path in first.hf_home.rglob("*.lock")]
        for name in left:
            (place / "hf" / name).parent.mkdir(parents=True, exist_ok=True)
            (place / "hf" / name).touch()
        fetch(
            needs,
            lambda event: None,
            HubSettings(endpoint=running.endpoint, hf_home=place / "hf", backoff=0.05),
        )
    assert left and (place / "hf" / "videos" / "a.mp4").read_bytes() == b"1" * 5000
    assert not list(place.rglob(f"*{SOFT}"))


def test_it_is_said_once_per_place(place: Path, tmp_path: Path) -> None:
    assert unlocked({"--output-dir": tmp_path / "out", "HF_HOME": tmp_path / "hf"}) == []
    (said,) = unlocked(
        {
            "--output-dir": place / "out",
            "HF_HOME": place / "hf",
            "the hub's cache": place / "hf" / "hub",
        }
    )
    assert (
        f"--output-dir {place}/out and HF_HOME {place}/hf has no file locks" in said
        and "hub's cache" not in said
    )


def test_lmms_evals_own_launch_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_DATASETS_CACHE", raising=False)
    model = ModelChoice("m", "a/b", "qwen2_5_vl", "", served=True)
    backend = LmmsEval(HubSettings(hf_home=place / "hf"))
    backend.ready(
        RunConfig(model="qwen2_5_vl", backend="lmms-eval", model_args="pretrained=a/b"), model
    )
    with pytest.raises(
        EasiError, match=f"the file system of {place}/hf/datasets has none"
    ) as refused:
        backend.ready(
            RunConfig(
                model="qwen2_5_vl", backend="lmms-eval", model_args="pretrained=a/b", plain=True
            ),
            model,
        )
    assert "HF_DATASETS_CACHE" in refused.value.hint


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize(("backend", "answer"), [("vlmevalkit", "ENOSYS"), ("lmms-eval", "ENOLCK")])
def test_a_run_is_complete_without_any_locks(tmp_path: Path, backend: str, answer: str) -> None:
    user = User(tmp_path)
    done = user.run(
        "--smoke",
        "--backend",
        backend,
        "--benchmarks",
        "embspatial",
        "--nproc",
        2,
        "--no-rich",
        "--output-dir",
        tmp_path / "out",
        PYTHONPATH=str(TAKEN_AWAY),
        EASI_TEST_NO_LOCKS=str(tmp_path),
        EASI_TEST_ERRNO=answer,
    )
    assert done.code == 0 and "complete EmbSpatial" in done.out, done.said
    assert f"--output-dir {tmp_path}/out" in done.out and "has no file locks" in done.out
