"""Real (not rehearsed) runs against a local hub that misbehaves.

Workers die, and models do not load.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import Runs
from hub_faults import Faults, FaultyHub
from program import (
    RESULT_FILES,
    Launch,
    Results,
    RunFolder,
    User,
    a_closed_port,
    marked,
    run_folder,
    run_folders,
    twice,
)

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.faults]

KEY = "embspatial"
TITLE = "EmbSpatial"
PIXELS = "min_pixels=784,max_pixels=3136"  # as the rehearsal runs the same weights


@dataclass(frozen=True)
class Site:
    """Where real runs of one tiny checkpoint take place: in the output folder of the rehearsals."""

    user: User
    hub: FaultyHub
    model: Path
    out: Path
    whole: Path  # the checkpoint as it should be

    def options(self, *more: object) -> list[object]:
        return [
            "--model",
            self.model,
            "--model-args",
            PIXELS,
            "--device",
            "cpu",
            "--benchmarks",
            KEY,
            "--dataset-dir",
            self.user.root / "datasets",
            "--output-dir",
            self.out,
            "--no-rich",
            *more,
        ]

    def run(self, *more: object) -> Launch:
        return self.run_words(self.options(*more))

    def run_words(self, words: Sequence[object]) -> Launch:
        return self.user.run(*words, **self.at_the_hub)

    @property
    def at_the_hub(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.hub.endpoint, "NO_PROXY": "127.0.0.1"}

    @property
    def folder(self) -> RunFolder:
        return run_folder(self.out, "vlmevalkit", self.model.name)


@pytest.fixture(scope="module")
def site(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("site")
    whole = runs.served / "models" / "easi-smoke" / "Tiny-VLM"
    model = shutil.copytree(whole, root / "Another-VLM")
    with FaultyHub(runs.served) as running:
        # The tiny hub takes any token; what is tested is that runs survive 503 answers at the start
        # and in the middle.
        running.set_faults(Faults(status=503, times=3))
        yield Site(User(root / "user"), running, model, runs.out, whole)


@pytest.fixture(scope="module")
def first(site: Site) -> tuple[Launch, Results]:
    """A whole run, through a hub that fails a few times."""
    launch = site.run()
    assert launch.code == 0, launch.said
    return launch, Results.keep(site.out, site.out / "kept" / "first")


def test_two_models_in_one_folder_do_not_mix(
    runs: Runs, site: Site, first: tuple[Launch, Results]
) -> None:
    rehearsed, (_, results) = runs.alone("vlmevalkit"), first
    assert len(run_folders(site.out, "vlmevalkit")) == 2
    assert [
        key
        for (key, part), line in results.table.items()
        if line["state"] == "complete" and not part
    ] == [KEY]
    assert {answer["benchmark"] for answer in site.folder.answers} == {KEY}
    for name in RESULT_FILES:
        assert (rehearsed.folder.root / name).read_bytes() == (
            rehearsed.results.folder / name
        ).read_bytes()


def test_a_hub_that_fails_a_few_times_is_survived(
    site: Site, first: tuple[Launch, Results]
) -> None:
    launch, results = first
    assert [request.status for request in site.hub.served()].count(503) == 3
    assert results.line(KEY)["state"] == "complete" and 0 < results.score(KEY) < 100
    assert site.folder.manifest["fields"]["--smoke"] is False
    assert results.payload["modelName"] == "Another-VLM" == site.folder.manifest["modelName"]
    for word in ("modelName", "modelType", "precision", "--submission-configs"):
        assert word in launch.out, "without metadata a line names the fields to fill"
    assert "Traceback" not in launch.out + launch.err


def test_a_checkpoint_gives_the_scores_it_gave_in_the_rehearsal(
    runs: Runs, first: tuple[Launch, Results]
) -> None:
    assert first[1].score(KEY) == runs.alone("vlmevalkit").results.score(KEY)


def without_results(archive: zipfile.ZipFile) -> bool:
    """The archive has the run's manifest, and neither files of the backend nor rows.

    Those would lie in folders of their own.
    """
    names = set(archive.namelist())
    return "run_manifest.json" in names and not any("/" in name for name in names)


@pytest.fixture(scope="module")
def broken(site: Site, first: tuple[Launch, Results]) -> tuple[Launch, Results]:
    """A ``--rerun`` whose every worker is killed as soon as it starts.

    A machine without memory does the same.
    """
    with site.user.start(*site.options("--rerun"), **site.at_the_hub) as launch:
        while launch.process.poll() is None:
            for pid, command in marked(launch.mark):
                if "--easi-role work" in command and "guard.py" not in command:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        launch.wait(10)
    return launch, Results.keep(site.out, site.out / "kept" / "broken")


def test_workers_that_die_each_time_are_told_with_the_way_to_try_again(
    broken: tuple[Launch, Results],
) -> None:
    launch, _ = broken
    assert launch.code == 1, launch.said
    summary = launch.out[launch.out.index("Not complete:") :]
    assert f"{TITLE}: 18 of 18 questions not answered" in summary
    assert "SIGKILL after 4 starts" in " ".join(summary.split()), "the telling line"
    assert str(launch.logs[0]) in summary
    assert "To complete the run:" in summary and f"--benchmarks {KEY}" in " ".join(summary.split())
    assert "Traceback" not in launch.out + launch.err


def test_a_model_that_cannot_be_loaded_is_told_with_the_way_to_try_again(
    runs: Runs, site: Site, tmp_path: Path
) -> None:
    model = shutil.copytree(site.whole, tmp_path / "Broken-VLM")
    config = json.loads((model / "config.json").read_text())
    for part in (config, config.get("text_config", {})):
        if "num_hidden_layers" in part:
            part["num_hidden_layers"] += 1
            part["layer_types"] = (
                part.get("layer_types", [])[:1] * part["num_hidden_layers"] or None
            )
    (model / "config.json").write_text(json.dumps(config))
    launch = runs.user.run(
        "--smoke",
        "--model",
        model,
        "--device",
        "cpu",
        "--benchmarks",
        KEY,
        "--output-dir",
        runs.fresh(tmp_path.name),
    )
    assert launch.code == 1, launch.said
    summary = launch.out[launch.out.index("Not complete:") :]
    assert f"{TITLE}: 18 of 18 questions not answered" in summary
    assert "lacks" in summary[: summary.index("log: ")], "the telling line of the log"
    assert "after 1 start" in summary, "what cannot be loaded is not tried again and again"
    assert "To complete the run:" in summary and "Traceback" not in launch.out + launch.err


def test_a_failed_rerun_leaves_no_older_result_standing(
    site: Site, first: tuple[Launch, Results], broken: tuple[Launch, Results]
) -> None:
    _, results = broken
    assert results.line(KEY)["state"] == "failed" and results.line(KEY)["score"] == ""
    assert results.payload["scores"][KEY] is None
    with zipfile.ZipFile(results.zip) as archive:
        assert without_results(archive)
    for name in RESULT_FILES:
        assert (site.folder.root / name).read_bytes() == (results.folder / name).read_bytes()
    assert site.folder.manifest["benchmarks"][KEY]["state"] == "failed"
    assert f"{first[1].score(KEY):.2f}" not in (results.folder / "easi_scores.md").read_text(
        encoding="utf-8"
    )


@pytest.fixture(scope="module")
def repaired(site: Site, broken: tuple[Launch, Results]) -> tuple[Launch, Results]:
    """The command that the failed launch printed."""
    launch, _ = broken
    printed = launch.out[launch.out.index("To complete the run:") : launch.out.index("Written:")]
    words = shlex.split(printed.partition("\n")[2].replace("\\\n", " "))
    again = site.run_words(words[2:])
    return again, Results.keep(site.out, site.out / "kept" / "repaired")


def test_the_command_that_is_printed_finishes_the_run(
    site: Site, first: tuple[Launch, Results], repaired: tuple[Launch, Results]
) -> None:
    launch, results = repaired
    assert launch.code == 0, launch.said
    assert "--rerun" not in launch.options, "what the failed launch did answer is not asked again"
    time = {"time": ""}  # of other answers
    assert {**results.line(KEY), **time} == {**first[1].line(KEY), **time}
    assert {answer["epoch"] for answer in site.folder.answers} == {0, 1} and twice(
        site.folder
    ) == []


def test_a_rerun_that_cannot_even_begin_leaves_no_older_result_standing(
    site: Site, repaired: tuple[Launch, Results]
) -> None:
    """The data is to be fetched anew, and the hub is gone."""
    assert repaired[1].line(KEY)["state"] == "complete"
    options = site.options("--rerun", "--dataset-dir", site.user.root / "elsewhere")
    launch = site.user.run(
        *options, HF_ENDPOINT=f"http://127.0.0.1:{a_closed_port()}", NO_PROXY="127.0.0.1"
    )
    assert launch.code == 2 and launch.err.count("error:") == 1, launch.said
    now = Results(site.out)
    assert now.line(KEY)["state"] == "incomplete" and now.line(KEY)["score"] == ""
    assert now.payload["scores"][KEY] is None
    with zipfile.ZipFile(now.zip) as archive:
        assert without_results(archive)
