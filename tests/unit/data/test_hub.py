"""The local hub, asked by the real huggingface_hub client."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hub_faults import Faults, FaultyHub

DATA = "org/data"
MODEL = "easi-smoke/Tiny-VLM"
BIG = bytes(range(256)) * 4096  # 1 MiB, and no two neighbouring pieces alike


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "datasets/org/data/README.md": b"# data\n",
        "datasets/org/data/big.zip": BIG,
        "datasets/org/data/sub/der/b é.tsv": "a\tä\n".encode(),
        "models/easi-smoke/Tiny-VLM/config.json": b"{}",
        "models/easi-smoke/Tiny-VLM/model.safetensors": b"weights",
    }
    for name, content in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "root"


@pytest.fixture
def served(root: Path) -> Iterator[FaultyHub]:
    with FaultyHub(root) as running:
        yield running


def fetch(running: FaultyHub, tmp_path: Path, name: str = "big.zip", **options: object) -> Path:
    return Path(
        hf_hub_download(
            DATA,
            name,
            repo_type="dataset",
            endpoint=running.endpoint,
            cache_dir=tmp_path / "cache",
            **options,
        )
    )


def test_describes_repositories(served: FaultyHub) -> None:
    api = HfApi(endpoint=served.endpoint, token="hf_placeholder")
    info = api.dataset_info(DATA, files_metadata=True)
    assert [(file.rfilename, file.size) for file in info.siblings] == [
        ("README.md", 7),
        ("big.zip", len(BIG)),
        ("sub/der/b é.tsv", 5),
    ]
    assert api.model_info(MODEL).sha != info.sha
    assert api.repo_info(DATA, repo_type="dataset", revision=info.sha).sha == info.sha
    assert [entry.path for entry in api.list_repo_tree(DATA, repo_type="dataset")] == [
        "README.md",
        "big.zip",
        "sub",
    ]
    assert api.list_repo_files(DATA, repo_type="dataset") == [
        "README.md",
        "big.zip",
        "sub/der/b é.tsv",
    ]
    found = api.get_paths_info(DATA, ["big.zip", "sub", "absent"], repo_type="dataset")
    assert [entry.path for entry in found] == ["big.zip", "sub"]
    assert found[0].lfs.size == len(BIG)
    assert api.list_repo_refs(DATA, repo_type="dataset").branches[0].target_commit == info.sha
    assert api.whoami()["name"] == "smoke"


def test_a_snapshot_is_the_folder(served: FaultyHub, root: Path, tmp_path: Path) -> None:
    got = Path(
        snapshot_download(
            DATA, repo_type="dataset", endpoint=served.endpoint, cache_dir=tmp_path / "cache"
        )
    )
    names = sorted(path.relative_to(got).as_posix() for path in got.rglob("*") if path.is_file())
    assert names == ["README.md", "big.zip", "sub/der/b é.tsv"]
    assert all(
        (got / name).read_bytes() == (root / "datasets" / DATA / name).read_bytes()
        for name in names
    )


def test_what_is_in_the_cache_is_not_sent_again(served: FaultyHub, tmp_path: Path) -> None:
    fetch(served, tmp_path)
    before = sum(request.sent for request in served.served())
    fetch(served, tmp_path)
    assert before >= len(BIG)
    assert sum(request.sent for request in served.served()) == before


def test_a_changed_file_is_a_new_commit(served: FaultyHub, root: Path, tmp_path: Path) -> None:
    first = fetch(served, tmp_path)
    (root / "datasets" / DATA / "big.zip").write_bytes(b"other")
    second = fetch(served, tmp_path)
    assert first.parent != second.parent
    assert second.read_bytes() == b"other"


def test_what_is_not_there(served: FaultyHub, tmp_path: Path) -> None:
    with pytest.raises(EntryNotFoundError):
        fetch(served, tmp_path, "absent.zip")
    with pytest.raises(RevisionNotFoundError):
        fetch(served, tmp_path, revision="v2")
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=served.endpoint).dataset_info("org/absent")
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=served.endpoint).dataset_info(MODEL)  # a model is no dataset


def test_a_missing_repository_is_missing_until_told_otherwise(
    served: FaultyHub, tmp_path: Path
) -> None:
    served.set_faults(Faults(missing=frozenset({DATA})))
    with pytest.raises(RepositoryNotFoundError):
        fetch(served, tmp_path)
    served.set_faults(Faults())
    assert fetch(served, tmp_path).read_bytes() == BIG


@pytest.mark.parametrize("status", [429, 503])
def test_an_error_status_so_many_times(served: FaultyHub, status: int) -> None:
    api = HfApi(endpoint=served.endpoint)
    served.set_faults(Faults(status=status, times=2, match="/api/datasets", retry_after=7))
    for _ in range(2):
        with pytest.raises(HfHubHTTPError) as refused:
            api.dataset_info(DATA)
        assert refused.value.response.status_code == status
        assert refused.value.response.headers["Retry-After"] == "7"
        assert api.model_info(MODEL).id == MODEL  # does not match
    assert api.dataset_info(DATA).id == DATA


def test_a_dropped_connection_fails_the_download_and_the_next_one_resumes(
    served: FaultyHub, root: Path, tmp_path: Path
) -> None:
    content = BIG * 12
    (root / "datasets" / DATA / "big.zip").write_bytes(content)
    served.set_faults(Faults(drop_after=len(content) - 1000, drop_times=1, match="big.zip"))
    with pytest.raises(requests.RequestException):
        fetch(served, tmp_path)
    assert fetch(served, tmp_path).read_bytes() == content
    first, second = [request for request in served.served() if request.method == "GET"]
    assert (first.range, first.sent) == ("", len(content) - 1000)
    start = int(second.range.removeprefix("bytes=").removesuffix("-"))
    assert start > 0 and second.status == 206 and second.sent == len(content) - start


@pytest.mark.parametrize(
    ("asked", "status", "body"),
    [
        ("bytes=0-", 206, BIG),
        ("bytes=10-19", 206, BIG[10:20]),
        (f"bytes={len(BIG) - 1}-", 206, BIG[-1:]),
        (f"bytes={len(BIG)}-", 416, b""),
        ("lines=1-2", 200, BIG),
    ],
)
def test_ranges(served: FaultyHub, asked: str, status: int, body: bytes) -> None:
    url = f"{served.endpoint}/datasets/{DATA}/resolve/main/big.zip"
    answer = requests.get(url, headers={"Range": asked, "Accept-Encoding": "identity"}, timeout=10)
    assert (answer.status_code, answer.content) == (status, body)


def test_the_wrong_token_is_refused(served: FaultyHub, tmp_path: Path) -> None:
    served.set_faults(Faults(token="hf_right"))
    with pytest.raises(requests.HTTPError) as refused:
        HfApi(endpoint=served.endpoint, token="hf_wrong").whoami()
    assert refused.value.response.status_code == 401
    with pytest.raises(HfHubHTTPError):
        fetch(served, tmp_path, token="hf_wrong")
    with pytest.raises(RepositoryNotFoundError):
        fetch(served, tmp_path, token=False)
    assert fetch(served, tmp_path, token="hf_right").read_bytes() == BIG


def test_a_hanging_hub_can_be_stopped(root: Path) -> None:
    running = FaultyHub(root)
    running.set_faults(Faults(hang=3600))
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{running.endpoint}/api/models/{MODEL}", timeout=0.2)
    began = time.monotonic()
    running.stop()
    assert time.monotonic() - began < 300
    with pytest.raises(requests.ConnectionError):
        requests.get(running.endpoint, timeout=1)


@pytest.mark.parametrize(
    "path",
    [
        "/datasets/org/data/resolve/main/../../../../secret.txt",
        "/datasets/org/data/resolve/main/..%2F..%2F..%2F..%2Fsecret.txt",
        "/api/datasets/../datasets",
        "/api/models/..%2F..%2Fdatasets/org",
        "/datasets/../x/resolve/main/secret.txt",
    ],
)
def test_a_path_cannot_leave_the_repository(served: FaultyHub, root: Path, path: str) -> None:
    (root / "secret.txt").write_text("secret")
    plain = http.client.HTTPConnection(
        served.endpoint.removeprefix("http://"), timeout=10
    )  # sends the path as it is
    plain.request("GET", path)
    answer = plain.getresponse()
    assert answer.status == 404 and b"secret" not in answer.read().replace(b"secret.txt", b"")
    plain.close()


def test_clients_find_it_through_the_environment(served: FaultyHub, tmp_path: Path) -> None:
    """As the backends do: HF_ENDPOINT and HF_HOME are read when the client is imported."""
    script = (
        "import json, huggingface_hub as h; "
        "print(json.dumps(h.snapshot_download('easi-smoke/Tiny-VLM')))"
    )
    env = {
        **os.environ,
        "HF_ENDPOINT": served.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "NO_PROXY": "127.0.0.1",
    }
    env.pop("HF_HUB_CACHE", None)
    out = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
    ).stdout
    folder = Path(json.loads(out))
    assert folder.is_relative_to(tmp_path / "home")
    assert (folder / "model.safetensors").read_bytes() == b"weights"
