"""The whole rehearsal on each real backend, from the command line to the archive."""

from __future__ import annotations

import json
import random
import re
import shlex
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from conftest import BACKENDS, Runs, Whole
from easi_eval.benchmarks import by_key, headline_keys
from easi_eval.data.local_hub.server import LocalHub
from own_files import CORE, KEYS, headline
from program import RESULT_FILES, SECRETS, RunFolder, answered_otherwise, files_below

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

LETTER = re.compile(r"\b([A-J])\b")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
HEADLINES = headline_keys(KEYS)


@pytest.fixture
def whole(runs: Runs, backend: str) -> Whole:
    return runs.alone(backend)


# ---- what one launch leaves ----------------------------------------------------------------------


def test_everything_is_complete(whole: Whole) -> None:
    assert whole.launch.code == 0
    for key in KEYS:
        line = whole.results.line(key)
        asked = whole.folder.items(key)
        assert line["state"] == "complete" and line["reason"] == "" and line["failed"] == "0"
        assert line["n"] == line["total"] == str(len(asked)) and len(asked) >= 10
        assert sorted(whole.folder.texts(key)) == sorted(asked)


def test_every_score_lies_strictly_between_its_minimum_and_maximum(whole: Whole) -> None:
    for key in KEYS:
        line = whole.results.line(key)
        least = 0.0
        # corrected for chance: every answer wrong is sum(-1/n) / sum(1 - 1/n)
        if by_key(key).group:
            questions, weight = float(line["n"]), float(line["weight"])
            least = -100 * (questions - weight) / weight
        assert least < float(line["score"]) < 100, key


def test_the_scores_are_those_in_the_backends_own_files(whole: Whole) -> None:
    for key in KEYS:
        # a corrected one stands beside it
        shown = whole.results.table.get((key, "[stock]"), whole.results.line(key))["score"]
        assert float(shown) == pytest.approx(
            headline(whole.folder.backend, key, whole.folder.output(key)), abs=1e-9
        ), key


def test_site_is_pooled_from_both_halves(whole: Whole) -> None:
    halves = [whole.results.line(key) for key in ("site_image", "site_video")]
    points, weight = (sum(float(half[name]) for half in halves) for name in ("points", "weight"))
    assert whole.results.score("site") == pytest.approx(100 * points / weight)
    assert (
        min(map(float, (half["score"] for half in halves)))
        < whole.results.score("site")
        < max(float(half["score"]) for half in halves)
    )


def test_the_average_is_that_of_the_eight(whole: Whole) -> None:
    eight = [key for key in HEADLINES if key in CORE or key == "site"]
    assert len(eight) == 8
    wanted = sum(whole.results.score(key) for key in eight) / 8
    assert whole.results.score("easi8_average") == pytest.approx(wanted)
    assert f"{wanted:.2f}" in whole.launch.out


def test_the_payload(whole: Whole) -> None:
    payload = whole.results.payload
    assert (
        payload["backend"]
        == {"vlmevalkit": "vlmevalkit", "lmms-eval": "lmmseval"}[whole.folder.backend]
    )
    assert payload["modelName"] == "easi-smoke/Tiny-VLM"
    assert set(payload) - {"remarks"} == {"backend", "modelName", "scores", "subScores"}
    assert ("spar-partial" in payload.get("remarks", "")) == (
        whole.folder.backend == "lmms-eval"
    ), "both values of what is corrected"
    assert payload["scores"] == {key: round(whole.results.score(key), 4) for key in HEADLINES}
    for key, parts in payload["subScores"].items():
        for part, score in parts.items():
            cell = whole.results.table[key, part]["score"]
            assert score == (round(float(cell), 4) if cell else None), (key, part)
    assert set(payload["subScores"]) >= {"vsi_bench", "mmsi_bench", "blink", "site"}


def test_missing_sub_scores_say_why(whole: Whole) -> None:
    for (key, part), line in whole.results.table.items():
        assert line["score"] or line["reason"], (key, part)


def test_the_archive(whole: Whole) -> None:
    with zipfile.ZipFile(whole.results.zip) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        assert names == sorted(names) and len(set(names)) == len(names)
        assert not [
            name
            for name in names
            if name.startswith("/") or ".." in name.split("/") or name.endswith((".pkl", ".log"))
        ]
        ours = {
            "archive.json",
            "CHANGES.md",
            "REPRODUCE.md",
            "run_manifest.json",
            "easi_results.json",
            "extraction_report.json",
        }
        assert {name.partition("/")[0] for name in names} == {*KEYS, "rows", *ours}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        changes, unchanged = archive.read("CHANGES.md").decode(), 0
        for key in KEYS:
            assert archive.read(f"rows/{key}.csv").count(b"\n") == 1 + len(whole.folder.items(key))
            evidence = json.loads((whole.folder.output(key) / "evidence.json").read_text())
            for name in evidence["files"]:
                if f"`{key}/{name}`: " not in changes:  # paths of this machine had to go
                    assert (
                        archive.read(f"{key}/{name}")
                        == (whole.folder.output(key) / name).read_bytes()
                    )
                    unchanged += 1
        assert unchanged >= len(KEYS)
        assert json.loads(archive.read("run_manifest.json")).keys() == whole.folder.manifest.keys()
        for name in names:
            assert not [
                secret for secret in SECRETS.values() if secret.encode() in archive.read(name)
            ]


def test_the_manifest(whole: Whole) -> None:
    manifest = whole.folder.manifest
    package = {"vlmevalkit": ("ms-vlmeval", "0.0.20"), "lmms-eval": ("lmms-eval", "0.7.3")}[
        whole.folder.backend
    ]
    assert manifest["versions"][package[0]] == package[1] == manifest["fields"]["backend version"]
    assert {"easi-eval", "torch", "transformers", "datasets"} <= set(manifest["versions"])
    assert whole.folder.root.name == f"easi-smoke__Tiny-VLM-{manifest['identity'][:8]}"
    assert (
        manifest["modelName"] == "easi-smoke/Tiny-VLM"
        and manifest["model"]["cls"]
        and manifest["model"]["why"]
    )
    assert manifest["fields"]["--smoke"] is True
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in manifest["revisions"].values())
    assert [command.endswith("--easi-role score") for command in manifest["commands"]].count(
        True
    ) == 1
    for key in KEYS:
        state = manifest["benchmarks"][key]
        evidence = json.loads((whole.folder.output(key) / "evidence.json").read_text())
        assert state["state"] == "complete" and re.fullmatch("[0-9a-f]{64}", state["fingerprint"])
        assert state["fingerprint"] == evidence["fingerprint"]
        assert (
            state["evidence"]["comparable"]
            == whole.results.line(key)["comparable"]
            in ("yes", "note", "no")
        )
        assert (state["evidence"]["comparable"] == "yes") or state["evidence"]["notes"]
        assert len(state["evidence"]["data"]) >= 2, "the questions, and the weights they were asked"
        assert state["evidence"]["data"].keys() <= manifest["revisions"].keys()
        assert (
            str(state["evidence"]["rows"])
            == str(state["evidence"]["total"])
            == whole.results.line(key)["n"]
        )


def test_what_the_screen_says(whole: Whole) -> None:
    out = whole.launch.out
    (log,) = whole.launch.logs
    for key in KEYS:
        assert f"{whole.results.score(key):.2f}" in out
    assert str(log) in out
    assert all(str(whole.out / name) in out for name in (*RESULT_FILES, "report.html"))
    assert "Traceback" not in out + whole.launch.err and whole.launch.err == ""
    answered = log.read_text(encoding="utf-8")
    assert "Traceback" not in answered and len(answered) > 500


def test_the_time_of_answering_stands_wherever_the_scores_do(whole: Whole) -> None:
    states = whole.folder.manifest["benchmarks"]
    seconds = {key: states[key]["evidence"]["seconds"] for key in KEYS}
    for key in KEYS:
        assert float(whole.results.line(key)["time"]) == pytest.approx(seconds[key], abs=0.051)
    asked = sum(len(whole.folder.items(key)) for key in KEYS)
    assert f"{asked:,} questions in " in whole.launch.out and " CPU worker" in whole.launch.out
    answers = [answer["at"] for answer in whole.folder.answers]
    began = min(
        phase["at"] for phase in whole.folder.records("phase") if phase["phase"] == "answering"
    )
    assert sum(seconds.values()) == pytest.approx(max(answers) - began, abs=0.1)
    with zipfile.ZipFile(whole.results.zip) as archive:
        text = archive.read("REPRODUCE.md").decode()
    assert "| how answers were read | time | state |" in text


def test_the_log_can_be_followed(whole: Whole) -> None:
    (log,) = whole.launch.logs
    lines = log.read_text(encoding="utf-8").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S", line) for line in lines)
    bars = [line for line in lines if re.search(r"\d+%\|", line)]
    assert len(bars) < 2 * len(KEYS), "of loading and of tables, none of a question"
    assert not [line for line in lines if ".env" in line]
    said = [line.split(" ", 2)[2] for line in lines]
    assert len([line for line in said if line.startswith("complete ")]) == len(KEYS)


def test_every_event_is_kept(whole: Whole) -> None:
    text = (whole.folder.root / "events.jsonl").read_text(encoding="utf-8")
    events = [json.loads(line) for line in text.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "RunStarted" and kinds.count("RunStarted") == 1
    assert kinds[-1] == "RunEnded" and events[-1]["error"] == ""
    counts = {event["benchmark"]: event for event in events if event["event"] == "Progress"}
    scored = {event["benchmark"] for event in events if event["event"] == "BenchmarkScored"}
    assert scored == set(KEYS) == set(counts)
    for key, count in counts.items():
        assert count["done"] == count["total"] == len(whole.folder.items(key))
    times = [event["time"] for event in events]
    assert times == sorted(times)
    with zipfile.ZipFile(whole.results.zip) as archive:
        assert not [name for name in archive.namelist() if "events" in name]


def test_no_secret_is_written_or_shown(whole: Whole) -> None:
    secrets = [secret.encode() for secret in SECRETS.values()]
    shown = [whole.launch.out, whole.launch.err, *whole.launch.commands]
    assert len(whole.launch.commands) >= 3, (
        "the worker, the scorer and the program were seen running"
    )
    assert not [text for text in shown for secret in secrets if secret in text.encode()]
    written = [
        path
        for path in whole.out.rglob("*")
        if path.is_file() and "rehearsal/hub-" not in str(path)
    ]
    assert len(written) > 100
    assert not [path for path in written for secret in secrets if secret in path.read_bytes()]


def test_the_users_own_folders_stay_empty(whole: Whole) -> None:
    """Only our own cache of names may appear, below XDG_CACHE_HOME."""
    home, cache, huggingface = whole.user.places
    assert files_below([home, huggingface]) == []
    assert {path.name for path in cache.iterdir()} <= {"easi-eval"}


# ---- the answers mean something ------------------------------------------------------------------


def product_rows(folder: RunFolder, key: str) -> list[dict[str, object]]:
    """Item, answer, score, target and readability of each question.

    Readability is whether the backend could read the answer (None: not told).
    """
    from easi_eval.backends import make_backend
    from easi_eval.benchmarks import by_key
    from easi_eval.data.needs import HubSettings

    backend = make_backend(folder.backend, HubSettings.from_env())
    table = backend.rows(by_key(key), backend.outputs(by_key(key), folder.output(key)))
    return table.astype(object).where(table.notna(), None).to_dict("records")


def test_most_answers_can_be_read_and_they_differ(whole: Whole) -> None:
    for key in KEYS:
        rows = product_rows(whole.folder, key)
        readable = [
            row["parsed"]
            if row["parsed"] is not None
            else bool(LETTER.search(row["answer"]) or NUMBER.search(row["answer"]))
            for row in rows
        ]
        assert sum(readable) >= 0.6 * len(rows), key
        assert len({row["answer"] for row in rows}) >= 3, key


def test_the_journal_holds_the_answers_that_were_scored(whole: Whole) -> None:
    for key in KEYS:
        scored = {
            str(row["item"]): str(row["answer"]).strip() for row in product_rows(whole.folder, key)
        }
        assert scored == {item: text.strip() for item, text in whole.folder.texts(key).items()}, key


def guess(answer: str, target: str) -> float:
    """Roughly what an answer is worth against a target.

    It is good enough to find a shuffle that lowers the score.
    """
    letter, wanted = LETTER.search(answer), LETTER.search(target)
    if letter and wanted:
        return float(letter[1] == wanted[1])
    number, value = NUMBER.search(answer), NUMBER.search(target)
    if number and value:
        return float(abs(float(number[0]) - float(value[0])) <= 0.3 * abs(float(value[0])))
    return float(answer.strip() == target.strip())


def shuffled(rows: list[dict[str, object]], seed: int = 0) -> dict[str, str]:
    """The same answers given to other questions: the worst-looking of many shuffles."""
    chance = random.Random(seed)
    answers = [str(row["answer"]) for row in rows]
    deals = [chance.sample(answers, len(answers)) for _ in range(300)]
    worst = min(
        deals,
        key=lambda deal: sum(
            guess(answer, str(row["target"])) for answer, row in zip(deal, rows, strict=False)
        ),
    )
    return {str(row["item"]): answer for row, answer in zip(rows, worst, strict=False)}


def score_again(whole: Whole, texts: Mapping[str, Mapping[str, str]], root: Path) -> RunFolder:
    """Score other answers in a copy of a run's folder.

    The command is the run's own scoring command, taken from its manifest.
    """
    answered_otherwise(whole.folder, root, lambda key, item, _: texts[key][item])
    (command,) = [
        command
        for command in whole.folder.manifest["commands"]
        if command.endswith("--easi-role score")
    ]
    (served,) = (whole.out / "rehearsal").glob("hub-*")
    with LocalHub(served) as running:
        pasted = re.sub(r"HF_ENDPOINT=\S+", f"HF_ENDPOINT={running.endpoint}", command)
        pasted = pasted.replace(shlex.quote(str(whole.folder.root)), shlex.quote(str(root)))
        done = subprocess.run(
            ["bash", "-c", pasted],
            env=whole.user.environment(HF_HUB_DISABLE_XET="1", NO_PROXY="127.0.0.1"),
            cwd=whole.user.root,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return RunFolder(root)


def test_shuffled_answers_change_every_score(whole: Whole, tmp_path: Path) -> None:
    texts = {key: shuffled(product_rows(whole.folder, key)) for key in KEYS}
    for key in KEYS:
        assert sorted(texts[key].values()) == sorted(
            str(row["answer"]) for row in product_rows(whole.folder, key)
        )
    again = score_again(whole, texts, tmp_path / whole.folder.backend / "run")
    for key in KEYS:
        changed = headline(whole.folder.backend, key, again.root / "outputs" / f".{key}.scored")
        assert changed != pytest.approx(
            headline(whole.folder.backend, key, whole.folder.output(key)), abs=1e-6
        ), key


# ---- again, and with more workers ----------------------------------------------------------------


@pytest.mark.alone
def test_a_second_identical_command_skips_everything(whole: Whole) -> None:
    logs, journals = (
        list(whole.out.glob("eval_*.log")),
        files_below([whole.folder.root / "journal"]),
    )
    launches = [whole.user.run(*whole.launch.options) for _ in range(2)]
    for launch in launches:
        assert launch.code == 0, launch.said
        assert " ".join(launch.out.split()).count(": complete, ") == len(KEYS)
        assert not [
            command for command in launch.commands if "run.py" in command or "lmms_eval" in command
        ]
    assert min(launch.cost for launch in launches) < 3
    assert (
        list(whole.out.glob("eval_*.log")) == logs
        and files_below([whole.folder.root / "journal"]) == journals
    )
    for name in RESULT_FILES:
        assert (whole.out / name).read_bytes() == (whole.results.folder / name).read_bytes()


def test_two_workers_give_the_same_answers_and_scores(runs: Runs, backend: str) -> None:
    alone, pair = runs.alone(backend), runs.pair(backend)
    used = {answer["worker"] for answer in pair.folder.answers}
    assert used == {"w0", "w1"}
    for key in KEYS:
        assert pair.folder.texts(key) == alone.folder.texts(key), key
    assert {key: line["score"] for key, line in pair.results.table.items()} == {
        key: line["score"] for key, line in alone.results.table.items()
    }
    assert pair.results.payload == alone.results.payload


def test_two_backends_in_one_folder_do_not_mix(runs: Runs) -> None:
    both = [runs.alone(backend) for backend in BACKENDS]
    assert both[0].out == both[1].out and both[0].folder.root != both[1].folder.root
    for whole in both:
        for name in RESULT_FILES:
            assert (whole.folder.root / name).read_bytes() == (
                whole.results.folder / name
            ).read_bytes()
        assert {answer["benchmark"] for answer in whole.folder.answers} == set(KEYS)
