"""``--base-url`` through the whole program: servers on loopback that die, come back and filter."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from easi_eval.benchmarks import LMMS_EVAL, VLMEVALKIT
from openai_server import OpenAIServer, openai_server
from program import SECRETS, Launch, Results, RunFolder, User, a_closed_port, run_folder, twice

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

FILTERED, GOOD = "mmsi_bench", "embspatial"
MODEL = "org/served"


@dataclass(frozen=True)
class Served:
    """A run whose only server died, and the same command with two others.

    One of these dies too and comes back, and one question is always filtered.
    """

    lost: Launch
    launch: Launch
    kept: dict[str, str]  # answers of the first launch
    results: Results
    folder: RunFolder
    first: OpenAIServer
    others: tuple[OpenAIServer, OpenAIServer]
    out: Path


def options(backend: str, base_url: str, out: Path) -> list[object]:
    return [
        *("--smoke", "--backend", backend, "--model", MODEL, "--base-url", base_url),
        *("--nproc", 2, "--benchmarks", f"{FILTERED},{GOOD}", "--no-rich", "--output-dir", out),
    ]


@pytest.fixture(scope="module", params=[VLMEVALKIT, LMMS_EVAL])
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    user = User(tmp_path_factory.mktemp("served"))
    out, filtered = user.root / "out", list[str]()

    def finish(text: str, before: int) -> str:
        """The first question of all is filtered, whoever is asked."""
        if not filtered:
            filtered.append(text)
        return "content_filter" if text == filtered[0] else "stop"

    with ExitStack() as stack:
        first = stack.enter_context(openai_server(finish=finish, lives=12))
        others = (
            stack.enter_context(openai_server(finish=finish, files=str(out))),
            stack.enter_context(
                openai_server(finish=finish, files=str(out), lives=4, dead_for=2.0)
            ),
        )
        lost = user.run(
            *options(request.param, first.base, out), EASI_SERVER_SECONDS="2", NO_PROXY="127.0.0.1"
        )
        folder = run_folder(out, request.param, "org__served")
        kept = {f"{each['benchmark']} {each['item']}": each["text"] for each in folder.answers}
        both = ",".join(server.base for server in others)
        launch = user.run(*options(request.param, both, out), NO_PROXY="127.0.0.1")
    yield Served(lost, launch, kept, Results(out), folder, first, others, out)


def test_servers_that_stay_away_end_the_run_and_fail_no_question(run: Served) -> None:
    assert run.lost.code == 1, run.lost.said
    assert "no server has answered for 2 s" in run.lost.out
    assert run.kept and sorted(run.kept.values()) == sorted(run.first.answers.values())
    assert run.first.dropped
    failed = [each for each in run.folder.records("answer") if each["failure"]]
    assert all("content_filter" in each["failure"] for each in failed), run.lost.said


def test_the_same_command_with_other_servers_goes_on_and_repeats_nothing(run: Served) -> None:
    assert run.launch.code == 1, run.launch.said  # for the filtered question
    assert twice(run.folder) == []
    texts = {
        f"{key} {item}": text
        for key in (FILTERED, GOOD)
        for item, text in run.folder.texts(key).items()
    }
    assert texts.items() >= run.kept.items()
    said = [*run.first.answers.items()]
    for server in run.others:
        assert server.answers.keys().isdisjoint(run.first.answers)
        said += server.answers.items()
    assert sorted(texts.values()) == sorted(answer for _, answer in said)
    assert len({text for text, _ in said}) == len(said)


def test_a_server_that_dies_beside_another_costs_no_question(run: Served) -> None:
    well, came_back = run.others
    assert well.answers and came_back.died_at < float("inf")
    assert set(well.probed) == set(came_back.probed) == {0, 1, 2}
    assert run.results.line(GOOD)["state"] == "complete"
    assert run.results.line(GOOD)["n"] == str(len(run.folder.items(GOOD)))


def test_servers_that_may_read_the_data_are_named_the_files(run: Served) -> None:
    """The first launch sent all pictures, and its answers counted in the second."""
    named = [url for server in run.others for url in server.named]
    data = (run.out / "rehearsal" / "datasets").as_uri()
    if run.folder.backend == LMMS_EVAL:  # its pictures are in memory
        assert not named
        return
    assert not run.first.named and named and all(url.startswith(data) for url in named)
    assert "the servers read the images in" in run.launch.out
    assert not list(run.out.rglob(".easi-*.png"))


def test_both_client_processes_ask(run: Served) -> None:
    """One may have answered all before the other is up; of the lost server both have had some."""
    asked = run.folder.records("lease")
    assert {record["file"].partition(".")[0] for record in asked} == {"w0", "w1"}


def test_a_filtered_question_is_a_failed_one_with_the_servers_words(run: Served) -> None:
    lost = set(run.folder.items(FILTERED)) - set(run.folder.texts(FILTERED))
    failed = {
        each["item"]: each["failure"] for each in run.folder.records("answer") if each["failure"]
    }
    assert failed.keys() == lost and len(lost) == 1
    assert "content_filter" in failed[lost.pop()]


def test_the_payload_names_the_model_and_nothing_holds_the_key(run: Served) -> None:
    assert run.results.payload["modelName"] == MODEL
    assert run.folder.manifest["fields"]["engine"] == {"vllm": "0.19"}
    text = json.dumps(run.folder.manifest["fields"])
    assert run.first.base not in text and "num_concurrent" not in text
    secret = SECRETS["OPENAI_API_KEY"].encode()
    files = [
        path for path in run.out.rglob("*") if path.is_file() and "rehearsal" not in path.parts
    ]
    assert not [path for path in files if secret in path.read_bytes()]
    with zipfile.ZipFile(run.results.zip) as archive:
        assert not [name for name in archive.namelist() if secret in archive.read(name)]
    assert not [one for one in (*run.lost.commands, *run.launch.commands) if secret.decode() in one]


def test_lmms_evals_own_client_is_shown_the_same_pictures(run: Served, tmp_path: Path) -> None:
    """The server's letters depend on the text and on every pixel."""
    if run.folder.backend != LMMS_EVAL:
        pytest.skip("VLMEvalKit's own client sends JPEG pictures")
    with openai_server() as server:
        launch = User(tmp_path).run(
            *("--smoke", "--backend", LMMS_EVAL, "--model", "async_openai", "--benchmarks", GOOD),
            *("--model-args", f"model={MODEL},base_url={server.base},num_cpus=8"),
            *("--no-rich", "--output-dir", tmp_path / "out"),
            NO_PROXY="127.0.0.1",
        )
    assert launch.code == 0, launch.said
    theirs = run_folder(tmp_path / "out", LMMS_EVAL, "org__served")
    assert theirs.texts(GOOD) == run.folder.texts(GOOD)


# ---- refused before anything starts --------------------------------------------------------------


@pytest.mark.parametrize("backend", [VLMEVALKIT, LMMS_EVAL])
def test_servers_that_cannot_answer_refuse_the_run_with_their_words(
    backend: str, tmp_path: Path
) -> None:
    nobody = f"http://127.0.0.1:{a_closed_port()}/v1"
    with (
        openai_server(model="org/other") as other,
        openai_server(status=lambda text, before: 400) as refuses,
    ):
        urls = f"{nobody},{other.base},{refuses.base}"
        launch = User(tmp_path).run(*options(backend, urls, tmp_path / "out"))
    assert launch.code == 2, launch.said
    for words in ("refused", "it serves org/other", "the server answered 400: told to say 400"):
        assert words in launch.err
    assert not refuses.asked and not (tmp_path / "out").exists()
