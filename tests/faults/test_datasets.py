"""Fetching data from a faulty hub: the real huggingface_hub client against a local hub."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from easi_eval.benchmarks import BENCHMARKS, by_key
from easi_eval.core.errors import DiskFull, EasiError, ExitCode, NoRoom, Unreachable
from easi_eval.core.events import DataProgress, Event, Notice
from easi_eval.data import model_file
from easi_eval.data.benchmark_needs import lmms_needs, vlmevalkit_needs
from easi_eval.data.fetch import fetch
from easi_eval.data.hub import PIECE
from easi_eval.data.model_file import fetch_model_file
from easi_eval.data.needs import Fetched, FileRecord, HubSettings, Kind, Need, Unpack
from easi_eval.data.sizes import size_of
from easi_eval.run.prepare import fetch_each
from hub_faults import Faults, FaultyHub, Request

pytestmark = pytest.mark.timeout(60)

REPO = "easi/tiny"
Usage = namedtuple("Usage", "total used free")  # as shutil.disk_usage answers
VIDEOS = {"a/one.mp4": b"1" * 5000, "a/two.mp4": b"2" * 7000, "b/drei.mp4": "ü".encode() * 900}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FaultyHub]:
    folder = tmp_path / "served" / "datasets" / REPO
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "Questions.tsv").write_bytes(b"index\tquestion\n0\twhere?\n" * 150_000)
    (folder / "data").mkdir()
    (folder / "data" / "test.parquet").write_bytes(os.urandom(1_000_000))
    zip_file(folder / "one.zip", {"a/one.mp4": VIDEOS["a/one.mp4"]})
    zip_file(folder / "two.zip", {name: VIDEOS[name] for name in ("a/two.mp4", "b/drei.mp4")})
    zip_file(folder / "videos.zip", {"raw.mp4": b"not wanted"})
    with FaultyHub(tmp_path / "served") as running:
        yield running


@pytest.fixture
def settings(hub: FaultyHub, tmp_path: Path) -> HubSettings:
    return HubSettings(endpoint=hub.endpoint, hf_home=tmp_path / "home", backoff=0.05)


def zip_file(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)


def served(hub: FaultyHub, name: str) -> Path:
    return hub.root / "datasets" / REPO / name


def snapshot(what: str = "media", **more: object) -> Need:
    return Need(what=what, repo=REPO, ignore=("videos.zip",), **more)  # type: ignore[arg-type]


def table(folder: Path, **more: object) -> Need:
    return Need(
        what="questions", repo=REPO, kind=Kind.FILE, files=("Questions.tsv",), where=folder, **more
    )  # type: ignore[arg-type]


def get(needs: list[Need], settings: HubSettings) -> tuple[list[Fetched], list[Event]]:
    events: list[Event] = []
    return fetch(needs, events.append, settings), events


def refused(needs: list[Need], settings: HubSettings) -> EasiError:
    with pytest.raises(EasiError) as caught:
        fetch(needs, lambda event: None, settings)
    assert "\n" not in caught.value.message and caught.value.hint
    return caught.value


def requests(hub: FaultyHub) -> list[Request]:
    """All of them: the hub notes a request a moment after its answer is out."""
    count = -1
    while count != len(hub.served()):
        count = len(hub.served())
        time.sleep(0.05)
    return list(hub.served())


def bodies(hub: FaultyHub, name: str) -> list[tuple[int, str]]:
    """(bytes sent, Range) of every body the hub sent for a file."""
    return [
        (one.sent, one.range)
        for one in requests(hub)
        if one.method == "GET" and one.path.endswith(f"/{name}")
    ]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def no_leftovers(folder: Path) -> None:
    left = [
        path
        for path in folder.rglob("*")
        if "partial" in path.name or path.name.endswith((".part", ".incomplete"))
    ]
    assert left == []


# -- what is fetched and where it lands ------------------------------------------------------------


def test_a_file_and_a_snapshot_arrive_whole_and_are_described(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    (file, media), events = get([table(tmp_path / "data"), snapshot()], settings)
    original = served(hub, "Questions.tsv")
    assert file.path == tmp_path / "data" / "Questions.tsv" and not file.path.is_symlink()
    assert file.path.read_bytes() == original.read_bytes()
    assert file.files == (FileRecord("Questions.tsv", original.stat().st_size, sha256(original)),)
    assert [one.path for one in media.files] == [
        "Questions.tsv",
        "README.md",
        "data/test.parquet",
        "one.zip",
        "two.zip",
    ]
    assert all((media.path / one.path).stat().st_size == one.size for one in media.files)
    assert media.revision == file.revision == media.path.name and len(media.revision) == 40
    assert media.path.is_relative_to(settings.hf_home / "hub")
    last = {event.what: event for event in events if isinstance(event, DataProgress)}
    assert last["questions"] == DataProgress("questions", file.bytes, file.bytes)
    assert last["media"] == DataProgress("media", media.bytes, media.bytes)
    no_leftovers(tmp_path)


def test_the_real_client_finds_the_snapshot_offline(hub: FaultyHub, settings: HubSettings) -> None:
    (media,), _ = get([snapshot()], settings)
    program = (
        f"import huggingface_hub as h; print(h.snapshot_download({REPO!r}, repo_type='dataset'))"
    )
    environ = {
        **os.environ,
        "HF_HOME": str(settings.hf_home),
        "HF_HUB_OFFLINE": "1",
        "HF_ENDPOINT": hub.endpoint,
    }
    environ.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(media.path)


def test_a_second_fetch_downloads_nothing(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    needs = [table(tmp_path / "data"), snapshot(unpack=Unpack(into=tmp_path / "videos"))]
    first, _ = get(needs, settings)
    before = sum(one.sent for one in requests(hub) if "/resolve/" in one.path)
    assert get(needs, settings)[0] == first
    assert sum(one.sent for one in requests(hub) if "/resolve/" in one.path) == before > 0


def test_equal_files_found_elsewhere_are_linked_and_others_are_not(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    other, same = tmp_path / "other", tmp_path / "LMUData"
    for folder in (other, same):
        folder.mkdir()
        (folder / "Questions.tsv").write_bytes(served(hub, "Questions.tsv").read_bytes())
    damaged = bytearray((other / "Questions.tsv").read_bytes())
    damaged[1000] ^= 1
    (other / "Questions.tsv").write_bytes(damaged)
    (file,), _ = get(
        [table(tmp_path / "data", save_as="New.tsv")], replace(settings, search=(other, same))
    )
    assert file.path == tmp_path / "data" / "New.tsv"
    assert file.path.resolve() == same / "Questions.tsv"
    assert bodies(hub, "Questions.tsv") == []


def test_an_outdated_file_is_replaced_with_what_was_derived_from_it(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "Questions.tsv").write_bytes(b"old")
    (folder / "Questions_local.tsv").write_bytes(b"made from old")
    (file,), events = get([table(folder, derived=("Questions_local.tsv",))], settings)
    assert sha256(file.path) == sha256(served(hub, "Questions.tsv"))
    assert not (folder / "Questions_local.tsv").exists()
    assert [event for event in events if isinstance(event, Notice)]


def test_a_damaged_cache_is_repaired(hub: FaultyHub, settings: HubSettings) -> None:
    (media,), _ = get([snapshot()], settings)
    blob = (media.path / "data" / "test.parquet").resolve()
    blob.write_bytes(b"x" * blob.stat().st_size)  # same size, other bytes
    (media.path / "one.zip").resolve().unlink()  # a dangling link
    get([snapshot()], settings)
    for name in ("data/test.parquet", "one.zip"):
        assert sha256(media.path / name) == sha256(served(hub, name))


def test_a_new_commit_is_followed(hub: FaultyHub, settings: HubSettings) -> None:
    (old,), _ = get([snapshot()], settings)
    served(hub, "README.md").write_text("changed")
    (new,), _ = get([snapshot()], settings)
    assert new.revision != old.revision
    assert (new.path / "README.md").read_text() == "changed"
    assert (
        settings.hub_cache / "datasets--easi--tiny" / "refs" / "main"
    ).read_text() == new.revision
    assert len(bodies(hub, "test.parquet")) == 1


# -- a hub that misbehaves -------------------------------------------------------------------------


@pytest.mark.parametrize("status", [503, 429])
def test_a_busy_hub_is_asked_again(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path, status: int
) -> None:
    hub.set_faults(Faults(match="/api/", status=status, times=3, retry_after=0))
    (file,), _ = get([table(tmp_path / "data")], settings)
    assert sha256(file.path) == sha256(served(hub, "Questions.tsv"))
    assert [one.status for one in requests(hub)].count(status) == 3


def test_a_busy_file_server_is_asked_again(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    hub.set_faults(Faults(match="/resolve/", status=429, times=3, retry_after=0))
    (file,), _ = get([table(tmp_path / "data")], settings)
    assert sha256(file.path) == sha256(served(hub, "Questions.tsv"))


def test_a_hub_that_stays_busy_is_named(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    hub.set_faults(Faults(match="/api/", status=503, times=-1))
    error = refused([table(tmp_path / "data")], replace(settings, retries=3, backoff=0.01))
    assert "503" in error.message and hub.endpoint in error.message
    assert len(requests(hub)) == 4


def said(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Notice)]


def test_a_hub_out_of_order_is_shown_and_given_up_once(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    """Before it has answered anything; also when one benchmark after the other is asked for."""
    hub.set_faults(Faults(status=502, times=-1))
    events: list[Event] = []
    needs = {key: [table(tmp_path / key)] for key in ("blink", "vsibench", "mmsi")}
    quick = replace(settings, backoff=0.15)
    with pytest.raises(Unreachable, match="502"):
        fetch_each(needs, events.append, quick)
    assert said(events) == [
        f"the hub answers 502; trying again, {n} of 5 ({hub.endpoint})" for n in range(1, 6)
    ]
    asked = len(requests(hub))
    assert asked == 6
    with pytest.raises(Unreachable, match="502"):
        fetch_model_file(quick, "easi/model", "config.json")
    assert len(requests(hub)) == asked + 1, "the second request waits no more"
    hub.set_faults(Faults())
    assert fetch(needs["mmsi"], events.append, quick), "it is asked, and may have come back"
    hub.set_faults(Faults(match="/api/", status=502, times=2))
    assert fetch(needs["blink"], events.append, quick), "and then it is waited for again"


def test_a_hub_out_of_order_has_its_time_whatever_the_number_of_tries(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    hub.set_faults(Faults(status=504, times=-1))
    quick = replace(settings, backoff=0.05, retries=1000, out_of_order=0.4)
    assert "504" in refused([table(tmp_path / "data")], quick).message
    assert 2 < len(requests(hub)) < 10


def test_complete_data_need_no_hub_that_works(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    first, _ = get([table(tmp_path / "data")], settings)
    hub.set_faults(Faults(status=500, times=-1))
    again, events = get([table(tmp_path / "data")], replace(settings, backoff=0.01))
    assert again == first
    assert "going on with the data on disk" in said(events)[-1]


def test_once_it_has_answered_only_time_without_news_ends_a_download(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    hub.set_faults(Faults(match="/resolve/", status=503, times=8))
    (file,), events = get([table(tmp_path / "data")], replace(settings, retries=1, backoff=0.01))
    assert sha256(file.path) == sha256(served(hub, "Questions.tsv"))
    assert any(
        "the hub answers 503; trying again in" in line and REPO in line for line in said(events)
    )
    hub.set_faults(Faults(match="/resolve/", status=503, times=-1))
    need = snapshot(files=("data/test.parquet",))
    assert "503" in refused([need], replace(settings, backoff=0.05, stall=0.5)).message


def test_the_time_without_news_is_counted_anew_with_every_byte(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    """Forty interruptions together last far longer than ``stall``."""
    hub.set_faults(Faults(match="Questions.tsv", drop_after=PIECE + 100))
    (file,), _ = get([table(tmp_path / "data")], replace(settings, backoff=0.05, stall=1.0))
    assert sha256(file.path) == sha256(served(hub, "Questions.tsv"))
    assert len(bodies(hub, "Questions.tsv")) * 0.05 > 1.0


def test_a_body_that_pauses_is_resumed_where_it_was(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    size = served(hub, "Questions.tsv").stat().st_size
    hub.set_faults(
        Faults(match="Questions.tsv", drop_after=2 * PIECE + 100, drop_times=1, pause=30)
    )
    (file,), _ = get([table(tmp_path / "data")], settings)
    assert sha256(file.path) == sha256(served(hub, "Questions.tsv"))
    assert (size - 2 * PIECE, f"bytes={2 * PIECE}-") in bodies(hub, "Questions.tsv")


def test_dropped_connections_are_continued_where_they_broke(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    size = served(hub, "Questions.tsv").stat().st_size
    hub.set_faults(Faults(match="Questions.tsv", drop_after=700_000, drop_times=4))
    (file,), _ = get([table(tmp_path / "data")], replace(settings, retries=2))
    assert sha256(file.path) == sha256(served(hub, "Questions.tsv"))
    sent = bodies(hub, "Questions.tsv")
    assert sum(count for count, _ in sent) < 1.5 * size, "it began anew instead of going on"
    assert len([asked for _, asked in sent if asked]) >= 4
    no_leftovers(tmp_path)


def test_a_download_that_was_given_up_is_continued_by_the_next_run(
    hub: FaultyHub, settings: HubSettings
) -> None:
    size = served(hub, "data/test.parquet").stat().st_size
    hub.set_faults(Faults(match="test.parquet", drop_after=2 * PIECE + 1000, drop_times=1))
    need = snapshot(files=("data/test.parquet",))
    hub_blobs = settings.hub_cache / "datasets--easi--tiny" / "blobs"

    def then_broken(event: Event) -> None:
        if isinstance(event, DataProgress) and event.done >= 2 * PIECE:
            hub.set_faults(Faults(match="test.parquet", status=503, times=-1))

    with pytest.raises(EasiError) as caught:
        fetch([need], then_broken, replace(settings, backoff=1.0, stall=1.5))
    assert "503" in caught.value.message
    hub.set_faults(Faults())
    assert [path.stat().st_size for path in hub_blobs.iterdir()] == [2 * PIECE]
    (fetched,), _ = get([need], settings)
    assert bodies(hub, "test.parquet")[-1] == (size - 2 * PIECE, f"bytes={2 * PIECE}-")
    assert sha256(fetched.path / "data" / "test.parquet") == sha256(
        served(hub, "data/test.parquet")
    )


def test_bytes_that_are_not_the_hubs_are_never_left_in_place(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    """A partial file with other bytes leads to a wrong checksum; the file is downloaded again."""
    original = served(hub, "data/test.parquet")
    blobs = settings.hub_cache / "datasets--easi--tiny" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{sha256(original)}.incomplete").write_bytes(b"#" * 1000)
    (fetched,), _ = get([snapshot(files=("data/test.parquet",))], settings)
    assert sha256(fetched.path / "data" / "test.parquet") == sha256(original)


@pytest.mark.parametrize(
    ("faults", "token", "words"),
    [
        (Faults(missing=frozenset({REPO})), None, ("no dataset", REPO, "private")),
        (Faults(token="hf_right"), "hf_wrong", ("does not accept the token",)),
        (Faults(token="hf_right"), None, ("no dataset", "private")),
        (Faults(match="/api/", status=403, times=-1), "hf_right", ("no access",)),
        (Faults(match="/api/", status=418, times=-1), None, ("418",)),
    ],
)
def test_refusals_are_said_at_once(
    hub: FaultyHub,
    settings: HubSettings,
    tmp_path: Path,
    faults: Faults,
    token: str | None,
    words: tuple[str, ...],
) -> None:
    hub.set_faults(faults)
    error = refused([table(tmp_path / "data")], replace(settings, token=token))
    assert all(word in error.message for word in words)
    assert "hf_" not in error.message + error.hint
    assert len(requests(hub)) == 1, "a refusal is no reason to ask again"
    assert not (tmp_path / "data").exists()


def test_the_right_token_is_sent(hub: FaultyHub, settings: HubSettings, tmp_path: Path) -> None:
    hub.set_faults(Faults(token="hf_right"))
    (file,), _ = get([table(tmp_path / "data")], replace(settings, token="hf_right"))
    assert file.path.is_file()


def test_a_revision_or_file_that_is_not_there_is_named(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    assert "'v9'" in refused([snapshot(revision="v9")], settings).message
    assert "Gone.tsv" in refused([replace(table(tmp_path), files=("Gone.tsv",))], settings).message


def test_a_gated_repo_says_where_its_terms_are(settings: HubSettings, tmp_path: Path) -> None:
    class Gate(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Gate) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        error = refused([table(tmp_path)], replace(settings, endpoint=endpoint))
        server.shutdown()
    assert "gated" in error.message and f"{endpoint}/datasets/{REPO}" in error.hint


def test_files_that_are_refused_although_the_repo_is_listed(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    """As the real hub does for gated data: everybody may list it."""
    hub.set_faults(Faults(match="/resolve/", status=403, times=-1))
    assert "no access" in refused([table(tmp_path)], settings).message


def test_too_small_a_disk_is_noticed_before_the_first_byte(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 10**6 - 1000, 1000))
    error = refused([table(tmp_path / "data")], settings)
    assert "are free" in error.message and "--dataset-dir" in error.hint
    assert not [one for one in requests(hub) if "/resolve/" in one.path]


def test_a_set_that_does_not_fit_is_refused_as_a_whole(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each benchmark alone would fit, but none is fetched. Weights and unpacked archives count."""
    model = hub.root / "models" / "easi" / "model"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(os.urandom(2_000_000))
    weights = Need("model", "easi/model", repo_type="model")
    needs = {
        "blink": [table(tmp_path / "data"), weights],
        "mmsi": [
            snapshot(files=("data/test.parquet", "one.zip"), unpack=Unpack(sentinel=".done")),
            weights,
        ],
    }
    table_bytes, zipped = (
        served(hub, name).stat().st_size for name in ("Questions.tsv", "one.zip")
    )
    whole = table_bytes + 2_000_000 + 1_000_000 + 2 * zipped
    for free, fits in ((whole - 1, False), (whole, True)):
        monkeypatch.setattr(
            shutil, "disk_usage", lambda path, free=free: Usage(10**9, 10**9 - free, free)
        )
        if fits:
            _, failed = fetch_each(needs, lambda event: None, settings)
            assert failed == {}
        else:
            with pytest.raises(NoRoom, match="short of"):
                fetch_each(needs, lambda event: None, settings)
            assert not [one for one in requests(hub) if "/resolve/" in one.path]


def test_the_disk_is_judged_by_what_is_still_to_be_unpacked(
    hub: FaultyHub, settings: HubSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Archives that are there, unpacked or not, in whole or in part."""
    target = settings.hf_home / "videos"
    need = snapshot(files=("one.zip", "two.zip"), unpack=Unpack(into=target))
    get([replace(need, unpack=None)], settings)

    def usage(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - free, free))

    total = sum(map(len, VIDEOS.values()))
    usage(total - 1)
    assert "short of" in refused([need], settings).message
    part = settings.hf_home / ".videos.easi-partial" / "a"
    part.mkdir(parents=True)
    (part / "one.mp4").write_bytes(VIDEOS["a/one.mp4"])
    usage(total - len(VIDEOS["a/one.mp4"]))
    get([need], settings)
    usage(0)
    get([need], settings)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files may not grow beyond this, as on a full disk: writing raises OSError (EFBIG)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_while_downloading_says_what_is_kept_and_missing(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    needs = {"blink": [snapshot(files=("data/test.parquet",))], "mmsi": [table(tmp_path / "data")]}
    with largest_file(6 * PIECE), pytest.raises(DiskFull) as caught:
        fetch_each(needs, lambda event: None, settings)
    assert caught.value.code == ExitCode.INCOMPLETE
    assert (
        "of data are to be fetched" in caught.value.message and "are free" in caught.value.message
    )
    assert "what was downloaded is kept" in caught.value.hint
    get([need for each in needs.values() for need in each], settings)
    assert any(
        asked for name in ("test.parquet", "Questions.tsv") for _, asked in bodies(hub, name)
    ), "it was kept"


@pytest.mark.parametrize("whole", [True, False])
def test_a_disk_that_fills_while_unpacking_says_what_is_kept_and_missing(
    hub: FaultyHub, settings: HubSettings, whole: bool
) -> None:
    zip_file(served(hub, "one.zip"), {"small.bin": b"1" * 1000, "large.bin": b"2" * 200_000})
    unpack = Unpack(into=settings.hf_home / "videos") if whole else Unpack(sentinel=".done")
    need = snapshot(files=("one.zip",), unpack=unpack)
    get([replace(need, unpack=None)], settings)
    with zipfile.ZipFile(served(hub, "one.zip"), "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in {"small.bin": b"1" * 1000, "large.bin": b"2" * 200_000}.items():
            file.writestr(name, data)
    with largest_file(100_000):
        error = refused([need], settings)
    assert isinstance(error, DiskFull) and error.code == ExitCode.INCOMPLETE
    assert "200 kB" in error.message or "0.2 MB are still to come" in error.message
    (fetched,), _ = get([need], settings)
    assert fetched.media is not None and (fetched.media / "large.bin").stat().st_size == 200_000
    assert not list(settings.hf_home.rglob("*.easi-part"))


def test_too_small_a_disk_for_the_media_leaves_no_folder(
    hub: FaultyHub, settings: HubSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    get([snapshot()], settings)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 10**6 - 1000, 1000))
    error = refused([snapshot(unpack=Unpack(into=settings.hf_home / "videos"))], settings)
    assert "HF_HOME" in error.hint and not (settings.hf_home / "videos").exists()


def test_killed_at_any_time_the_next_run_completes(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    """SIGKILL while downloading, then while unpacking; what looks complete is always complete."""
    files = {f"{n % 7}/{n}.jpg": bytes([n % 256]) * 3000 for n in range(3000)}
    zip_file(served(hub, "one.zip"), files)
    target = settings.hf_home / "videos"
    program = (
        "import sys; from pathlib import Path; from easi_eval.data.fetch import *; "
        "from easi_eval.data.needs import *; "
        "home = Path(sys.argv[2])\n"
        f"need = Need('media', {REPO!r}, ignore=('videos.zip',), "
        "unpack=Unpack(into=home / 'videos'))\n"
        "fetch([need], print, HubSettings(endpoint=sys.argv[1], hf_home=home))"
    )
    partial = settings.hf_home / ".videos.easi-partial"
    for begun in (
        lambda: list(settings.hub_cache.rglob("*.incomplete")),
        lambda: partial.exists() and len(list(partial.rglob("*"))) > 300,
    ):
        run = subprocess.Popen(
            [sys.executable, "-c", program, hub.endpoint, str(settings.hf_home)],
            stdout=subprocess.DEVNULL,
        )
        while not begun() and run.poll() is None:
            time.sleep(0.002)
        run.kill()
        assert run.wait() == -signal.SIGKILL, "it was over before it could be killed"
        assert not target.exists()
    kept = {path: path.stat().st_mtime_ns for path in partial.rglob("*.jpg")}
    get([snapshot(unpack=Unpack(into=target))], settings)
    assert {name: (target / name).read_bytes() for name in files} == files
    again = {path: (target / path.relative_to(partial)).stat().st_mtime_ns for path in kept}
    assert again == kept, "what was unpacked is not unpacked again"
    assert list(target.rglob("*part*")) == []


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_an_unreachable_hub_is_said_once_and_soon(tmp_path: Path) -> None:
    began = time.monotonic()
    settings = HubSettings(endpoint=closed_port(), hf_home=tmp_path)
    events: list[Event] = []
    with pytest.raises(EasiError) as caught:
        fetch(
            [Need(what=f"need {n}", repo=f"easi/number{n}") for n in range(8)],
            events.append,
            settings,
        )
    assert time.monotonic() - began < 15
    assert "cannot be reached" in caught.value.message and "HF_HUB_OFFLINE" in caught.value.hint
    assert events == []


def test_a_silent_hub_is_unreachable_too(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    hub.set_faults(Faults(hang=600))
    began = time.monotonic()
    assert (
        "cannot be reached" in refused([table(tmp_path)], replace(settings, patience=1.5)).message
    )
    assert time.monotonic() - began < 50


def test_something_that_is_no_hub_is_recognised(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    with FaultyHub(tmp_path / "served" / "datasets") as other:
        error = refused([table(tmp_path)], replace(settings, endpoint=f"{other.endpoint}/portal"))
    assert "no dataset" in error.message


@contextmanager
def answering(status: int, body: bytes = b"<html>please log in</html>") -> Iterator[str]:
    """Something that is no hub and answers everything alike; also as a proxy."""

    class Portal(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_CONNECT(self) -> None:
            self.send_error(status)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Portal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "words"),
    [(200, "does not answer like"), (511, "does not answer like"), (407, "name and a password")],
)
def test_what_stands_between_us_and_the_hub_is_named_at_once(
    settings: HubSettings, tmp_path: Path, status: int, words: str
) -> None:
    with answering(status) as portal:
        error = refused([table(tmp_path)], replace(settings, endpoint=portal))
    assert words in error.message and isinstance(error, Unreachable), (
        "with complete data on disk it is no obstacle"
    )
    assert "again" not in error.hint


def test_a_proxy_that_wants_a_password_is_not_asked_again(
    settings: HubSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(407) as proxy:
        monkeypatch.setenv("https_proxy", proxy)
        error = refused(
            [table(tmp_path)], replace(settings, endpoint="https://huggingface.co", backoff=60.0)
        )
    assert "name and a password" in error.message and "HTTPS_PROXY" in error.hint


def test_http_where_https_is_written_is_told(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    error = refused(
        [table(tmp_path)], replace(settings, endpoint=hub.endpoint.replace("http:", "https:"))
    )
    assert "does not use https" in error.message and "http://" in error.hint


def test_a_place_that_takes_no_files_is_named_before_the_first_byte(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", Path("/proc/nowhere")):
        error = refused([table(place)], settings)
        assert "nothing can be written to" in error.message and "--dataset-dir" in error.hint
        error = refused([snapshot()], replace(settings, hf_home=place))
        assert "nothing can be written to" in error.message and "HF_HOME" in error.hint
    (hub.root / "models" / "easi" / "model").mkdir(parents=True)
    (hub.root / "models" / "easi" / "model" / "config.json").write_text("{}")
    with pytest.raises(EasiError, match="cannot write") as caught:
        fetch_model_file(replace(settings, hf_home=tmp_path / "file"), "easi/model", "config.json")
    assert "again" not in caught.value.hint
    assert not [one for one in requests(hub) if one.method == "GET" and "/resolve/" in one.path]


def test_a_lock_that_cannot_be_had_is_named(hub: FaultyHub, settings: HubSettings) -> None:
    settings.records.mkdir(parents=True)
    (settings.records / "locks").touch()  # nothing can be made below it
    said = refused([snapshot(unpack=Unpack(into=settings.hf_home / "videos"))], settings)
    assert "cannot be locked" in said.message and "HF_HOME" in said.hint


# -- without a network -----------------------------------------------------------------------------


def test_everything_present_works_offline_and_with_the_hub_gone(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    needs = [table(tmp_path / "data"), snapshot(unpack=Unpack(into=tmp_path / "videos"))]
    first, _ = get(needs, settings)
    asked = len(requests(hub))
    offline, events = get(needs, replace(settings, offline=True))
    assert offline == first
    assert not [event for event in events if isinstance(event, Notice)]
    assert len(requests(hub)) == asked
    gone, events = get(needs, replace(settings, endpoint=closed_port()))
    assert gone == first
    assert len([event for event in events if isinstance(event, Notice)]) == 1


def test_a_cache_made_by_others_works_offline(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    program = f"import huggingface_hub as h; h.snapshot_download({REPO!r}, repo_type='dataset')"
    environ = {**os.environ, "HF_HOME": str(settings.hf_home), "HF_ENDPOINT": hub.endpoint}
    environ.pop("HF_HUB_CACHE", None)
    subprocess.run([sys.executable, "-c", program], env=environ, check=True, capture_output=True)
    (media,), _ = get([snapshot(unpack=Unpack(sentinel=".done"))], replace(settings, offline=True))
    assert (media.path / "a" / "one.mp4").read_bytes() == VIDEOS["a/one.mp4"]


def test_offline_names_what_is_missing(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    offline = replace(settings, offline=True)
    assert REPO in refused([snapshot()], offline).message
    (media,), _ = get([snapshot()], settings)
    (media.path / "one.zip").unlink()
    error = refused([snapshot()], offline)
    assert "one.zip" in error.message and "HF_HUB_OFFLINE" in error.hint
    (media.path / "Questions.tsv").unlink()
    assert "Questions.tsv" in refused([table(tmp_path / "data")], offline).message


def test_offline_the_commit_that_workers_will_read_counts(
    hub: FaultyHub, settings: HubSettings
) -> None:
    offline = replace(settings, offline=True)
    (first,), _ = get([snapshot()], settings)
    ref = settings.hub_cache / f"datasets--{REPO.replace('/', '--')}" / "refs" / "main"
    ref.unlink()
    assert get([snapshot()], offline)[0] == [first] and ref.read_text() == first.revision, (
        "workers find it by its ref"
    )
    # Another program asked for one file of a newer commit, which moves the ref.
    served(hub, "data/test.parquet").write_bytes(b"new")
    program = (
        "import huggingface_hub as h; "
        f"h.hf_hub_download({REPO!r}, 'README.md', repo_type='dataset')"
    )
    environ = {**os.environ, "HF_HOME": str(settings.hf_home), "HF_ENDPOINT": hub.endpoint}
    environ.pop("HF_HUB_CACHE", None)
    subprocess.run([sys.executable, "-c", program], env=environ, check=True, capture_output=True)
    assert ref.read_text() != first.revision
    assert (
        f"the archives of {REPO}"
        in refused([snapshot(unpack=Unpack(sentinel=".done"))], offline).message
    )


def test_only_the_hub_moves_what_others_set(hub: FaultyHub, settings: HubSettings) -> None:
    folder = hub.root / "models" / REPO
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"1")
    need = Need(what="model", repo=REPO, repo_type="model")
    offline = replace(settings, offline=True)
    (first,), _ = get([need], settings)
    refs = settings.hub_cache / f"models--{REPO.replace('/', '--')}" / "refs"
    (refs / "main").write_text("0" * 40)  # by another program, for a newer commit
    assert get([need], offline)[0] == [first]
    assert (refs / "main").read_text() == "0" * 40
    get([need], settings)
    assert (refs / "main").read_text() == first.revision
    shutil.rmtree(refs)
    refs.touch()  # nothing can be written below it
    assert get([need], offline)[0] == get([need], settings)[0] == [first]


def test_another_commit_than_the_hubs_is_not_read_unsaid(
    hub: FaultyHub, settings: HubSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,), _ = get([snapshot()], settings)
    ref = settings.hub_cache / f"datasets--{REPO.replace('/', '--')}" / "refs" / "main"
    ref.write_text("0" * 40)
    rename = Path.replace

    def refuse(part: Path, target: Path) -> Path:
        if target == ref:  # as in a folder of another user
            raise PermissionError(errno.EACCES, "Permission denied", str(ref))
        return rename(part, target)

    monkeypatch.setattr(Path, "replace", refuse)
    error = refused([snapshot()], settings)
    assert first.revision in error.message and "HF_HUB_OFFLINE" in error.hint


# -- unpacking -------------------------------------------------------------------------------------


def inside(settings: HubSettings) -> Callable[[], Path]:
    need = snapshot(unpack=Unpack(sentinel=".tiny_extracted"))
    return lambda: get([need], settings)[0][0].path


def test_zips_are_unpacked_inside_the_snapshot_and_repaired(
    hub: FaultyHub, settings: HubSettings
) -> None:
    run = inside(settings)
    folder = run()
    assert {name: (folder / name).read_bytes() for name in VIDEOS} == VIDEOS
    assert (folder / ".tiny_extracted").read_text() == "done"
    assert not (folder / "raw.mp4").exists()
    (folder / "a" / "one.mp4").write_bytes(b"cut")  # as a copy that was broken off leaves it
    (folder / "b" / "drei.mp4").unlink()
    run()
    assert {name: (folder / name).read_bytes() for name in VIDEOS} == VIDEOS
    no_leftovers(folder)


def test_a_half_unpacked_snapshot_without_sentinel_is_finished(
    hub: FaultyHub, settings: HubSettings
) -> None:
    (media,), _ = get([snapshot()], settings)
    (media.path / "a").mkdir()
    (media.path / "a" / "one.mp4").write_bytes(VIDEOS["a/one.mp4"][:100])
    run = inside(settings)
    assert run() == media.path
    assert (media.path / "a" / "one.mp4").read_bytes() == VIDEOS["a/one.mp4"]
    assert (media.path / ".tiny_extracted").is_file()


def test_videos_appear_as_a_whole_folder(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    target = settings.hf_home / "videos"
    (fetched,), events = get([snapshot(unpack=Unpack(into=target))], settings)
    assert fetched.media == target
    assert {
        path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*.mp4")
    } == VIDEOS
    assert DataProgress("media, unpacking", 13800, 13800) in events
    assert (settings.hf_home / ".videos.easi.json").is_file()


def test_a_folder_left_half_full_by_another_program_is_repaired(
    hub: FaultyHub, settings: HubSettings
) -> None:
    target = settings.hf_home / "videos"
    (target / "a").mkdir(parents=True)
    (target / "a" / "one.mp4").write_bytes(VIDEOS["a/one.mp4"][:10])
    (target / "a" / "own.txt").write_text("the user's own")
    get([snapshot(unpack=Unpack(into=target))], settings)
    assert {name: (target / name).read_bytes() for name in VIDEOS} == VIDEOS
    assert (target / "a" / "own.txt").read_text() == "the user's own"


def test_a_changed_archive_is_unpacked_anew_even_where_sizes_agree(
    hub: FaultyHub, settings: HubSettings
) -> None:
    target = settings.hf_home / "videos"
    need = snapshot(unpack=Unpack(into=target))
    get([need], settings)
    zip_file(served(hub, "one.zip"), {"a/one.mp4": b"9" * 5000})
    get([need], settings)
    assert (target / "a" / "one.mp4").read_bytes() == b"9" * 5000


def test_tars_in_parts_are_joined_where_there_is_no_zip(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, data in VIDEOS.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    for part, at in (
        ("frames.tar.part_aa", slice(0, 9000)),
        ("frames.tar.part_ab", slice(9000, None)),
    ):
        served(hub, part).write_bytes(whole.getvalue()[at])
    need = Need(
        what="frames",
        repo=REPO,
        allow=("frames.tar*",),
        unpack=Unpack(into=settings.hf_home / "frames"),
    )
    get([need], settings)
    (settings.hf_home / "frames" / "b" / "drei.mp4").unlink()
    get([need], settings)
    assert {name: (settings.hf_home / "frames" / name).read_bytes() for name in VIDEOS} == VIDEOS


@pytest.mark.parametrize("into", [True, False])
def test_an_archive_that_would_write_elsewhere_is_refused(
    hub: FaultyHub, settings: HubSettings, into: bool
) -> None:
    zip_file(served(hub, "one.zip"), {"good.mp4": b"good", "../../evil.mp4": b"evil"})
    unpack = Unpack(into=settings.hf_home / "videos") if into else Unpack(sentinel=".done")
    error = refused([snapshot(unpack=unpack)], settings)
    assert "../../evil.mp4" in error.message
    assert (
        list(settings.hf_home.rglob("*.mp4")) == [] and list(settings.hf_home.rglob(".done")) == []
    )
    assert not (settings.hf_home / "videos").exists()


def test_a_damaged_archive_leaves_no_folder_that_looks_complete(
    hub: FaultyHub, settings: HubSettings
) -> None:
    data = bytearray(served(hub, "two.zip").read_bytes())
    data[len("a/two.mp4") + 30 + 500] ^= (
        0xFF  # a byte of the first member: its CRC no longer agrees
    )
    served(hub, "two.zip").write_bytes(data)
    error = refused([snapshot(unpack=Unpack(into=settings.hf_home / "videos"))], settings)
    assert "two.zip" in error.message
    assert not (settings.hf_home / "videos").exists()


def test_needs_of_two_benchmarks_for_one_repo_are_met_once(
    hub: FaultyHub, settings: HubSettings
) -> None:
    unpack = Unpack(into=settings.hf_home / "videos")
    (one, two), _ = get([snapshot("one", unpack=unpack), snapshot("two", unpack=unpack)], settings)
    assert one.path == two.path and one.files == two.files
    assert len(bodies(hub, "one.zip")) == 1


# -- the plan --------------------------------------------------------------------------------------


def test_sizes_are_told_without_downloading(
    hub: FaultyHub, settings: HubSettings, tmp_path: Path
) -> None:
    needs = [
        table(tmp_path / "data"),
        snapshot(unpack=Unpack(into=settings.hf_home / "videos")),
        Need(what="lost", repo="easi/lost"),
    ]
    file, media, lost = size_of(needs, settings)
    assert (file.total, file.present) == (served(hub, "Questions.tsv").stat().st_size, 0)
    assert (
        media.to_unpack
        == served(hub, "one.zip").stat().st_size + served(hub, "two.zip").stat().st_size
    )
    assert lost.total is None and "easi/lost" in lost.problem
    assert not settings.hf_home.exists() and not (tmp_path / "data").exists()
    get(needs[:2], settings)
    file, media, _ = size_of(needs, settings)
    assert (file.present, media.present, media.to_unpack) == (file.total, media.total, 0)


def test_sizes_without_a_hub_are_unknown_not_an_error(tmp_path: Path) -> None:
    (size,) = size_of([snapshot()], HubSettings(endpoint=closed_port(), hf_home=tmp_path))
    assert size.total is None and "cannot be reached" in size.problem


def test_every_benchmark_has_needs_on_both_backends(tmp_path: Path) -> None:
    for bench in BENCHMARKS:
        questions, *media = vlmevalkit_needs(bench, tmp_path / "datasets")
        assert (
            questions.target.parent == tmp_path / "datasets" and questions.target.suffix == ".tsv"
        )
        assert all(need.unpack and need.unpack.sentinel for need in media)
        assert len(lmms_needs(bench, tmp_path)) == 1
    (vsi,) = lmms_needs(by_key("vsi_bench"), tmp_path)
    assert vsi.unpack == Unpack(into=tmp_path / "vsibench")
    (omni,) = lmms_needs(by_key("omnispatial_(manual_cot)"), tmp_path)
    assert omni.unpack is None


def test_a_models_config_comes_from_the_hub_or_from_the_cache(
    hub: FaultyHub, settings: HubSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hub.root / "models" / "easi" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "x"}')
    path = fetch_model_file(settings, "easi/model", "config.json")
    assert path.read_text() == '{"model_type": "x"}'
    for name, file in (
        ("easi/gone", "config.json"),
        ("easi/model", "other.json"),
        ("no name at all/x", "config.json"),
    ):
        with pytest.raises(EasiError):
            fetch_model_file(settings, name, file)
    ref = settings.hub_cache / "models--easi--model" / "refs" / "main"
    assert not ref.exists(), "the cache's main must not move to a snapshot that holds one file"
    monkeypatch.setattr(model_file, "_commits", {})  # as in another process
    with pytest.raises(EasiError, match="HF_HUB_OFFLINE"):
        fetch_model_file(replace(settings, offline=True), "easi/model", "config.json")
    ref.parent.mkdir(parents=True)
    ref.write_text(path.parent.name)
    for without in (replace(settings, offline=True), replace(settings, endpoint=closed_port())):
        assert fetch_model_file(without, "easi/model", "config.json") == path


def test_settings_are_read_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_stored\n")
    env = {
        "HF_HOME": str(tmp_path),
        "HF_ENDPOINT": "http://mirror/",
        "HF_HUB_OFFLINE": "on",
        "LMUData": "/lmu",
    }
    settings = HubSettings.from_env(env)
    assert (settings.endpoint, settings.offline, settings.token) == (
        "http://mirror",
        True,
        "hf_stored",
    )
    assert settings.hub_cache == tmp_path / "hub" and settings.search[0] == Path("/lmu")
    settings = HubSettings.from_env(env | {"HF_TOKEN": "hf_env", "HF_HUB_CACHE": "/cache"})
    assert settings.token == "hf_env" and settings.hub_cache == Path("/cache")
