"""The whole program, interrupted and killed during a run on the real backends.

It is then started again.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import BACKENDS, Runs
from easi_eval import cli
from program import Launch, Results, RunFolder, run_folder, run_folders, twice, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.faults]

# 52 questions, and those about videos take long enough to be hit in the middle
KEYS = ("vsi_bench", "blink")
STARTING = 240  # seconds to the first answer, on a machine that is busy with other things
MORE = 4  # answers of a launch before it is hit


@dataclass(frozen=True)
class Step:
    """One launch of the story and how things stood after it."""

    launch: Launch
    answers: int
    results: Results | None = None
    left: tuple[int, ...] = ()  # processes of it when the program had ended
    gone: float = 0.0  # seconds until none was left
    running: str = ""  # what --status said before it was hit
    after: str = ""  # and when it had ended


@dataclass
class Story:
    """One run on one backend that takes several launches: which, says ``steps``."""

    runs: Runs
    backend: str
    out: Path
    steps: dict[str, Step]

    def step(self, name: str) -> Step:
        assert name in self.steps, f"the story broke off before it was {name}"
        return self.steps[name]

    @property
    def folder(self) -> RunFolder:
        return run_folder(self.out, self.backend)

    def options(self, *more: object, keys: tuple[str, ...] = KEYS) -> list[object]:
        return [
            "--smoke",
            "--backend",
            self.backend,
            "--output-dir",
            self.out,
            "--no-rich",
            "--benchmarks",
            ",".join(keys),
            *more,
        ]

    def finish(self, name: str, *more: object, keys: tuple[str, ...] = KEYS) -> None:
        launch = self.runs.user.run(*self.options(*more, keys=keys))
        kept = Results.keep(self.out, self.out / "kept" / name) if launch.code == 0 else None
        self.steps[name] = Step(launch, len(self.folder.answers), kept, after=self.status())

    def hit(self, name: str, signum: int) -> None:
        """Signal the program itself, and nothing else, as soon as it has new answers.

        It is stopped while its status is asked for, so that it does not go on meanwhile.
        """
        before = self.known()
        with self.runs.user.start(*self.options()) as launch:
            wait_until(lambda: self.known() >= before + MORE, STARTING, launch)
            os.kill(launch.process.pid, signal.SIGSTOP)
            running = self.status()
            os.kill(launch.process.pid, signum)
            os.kill(launch.process.pid, signal.SIGCONT)
            launch.wait(90)
            left = tuple(launch.alive())
            gone = wait_until(lambda: not launch.alive(), 30)
        kept = Results.keep(self.out, self.out / "kept" / name) if signum == signal.SIGINT else None
        self.steps[name] = Step(launch, self.known(), kept, left, gone, running, self.status())

    def status(self) -> str:
        """What ``--status`` says about the output folder."""
        launch = self.runs.user.run("--status", "--output-dir", self.out)
        assert launch.code == 0 and launch.err == "", launch.said
        return launch.out

    def known(self) -> int:
        return sum(len(folder.answers) for folder in run_folders(self.out, self.backend))

    def kill_a_worker(self, name: str) -> None:
        """Kill one of two workers once both have answered; the run goes on.

        One worker needs only two seconds for the tiny questions, so the first to answer is held
        until the other has answered, and the one that lives until the other was started again.
        """
        held: set[int] = set()
        earlier = self.number

        def both_answered() -> bool:
            if self.number == earlier:
                return False
            pids = {header["worker"]: header["pid"] for header in self.of_launch("header")}
            came = {answer["worker"] for answer in self.of_launch("answer")}
            if len(came) == 1 and not held:
                held.add(pids[came.pop()])
                os.kill(*held, signal.SIGSTOP)
            return len(came) == 2

        with self.runs.user.start(*self.options("--nproc", 2)) as launch:
            wait_until(both_answered, STARTING, launch)
            pids = {header["worker"]: header["pid"] for header in self.of_launch("header")}
            os.kill(pids["w0"], signal.SIGSTOP)
            os.kill(pids["w1"], signal.SIGKILL)
            wait_until(lambda: len(self.of_launch("header")) == 3, STARTING, launch)
            os.kill(pids["w0"], signal.SIGCONT)
            launch.wait(400)
        kept = Results.keep(self.out, self.out / "kept" / name) if launch.code == 0 else None
        self.steps[name] = Step(launch, self.known(), kept)

    @property
    def number(self) -> int:
        """Of the newest launch."""
        return json.loads((self.folder.root / "work.json").read_text(encoding="utf-8"))["launch"]

    def of_launch(self, kind: str) -> list[dict[str, object]]:
        """Records of the newest launch."""
        return self.folder.records(kind, self.number)


def told(story: Story) -> Story:
    """All the launches, in order."""
    if story.backend == BACKENDS[0]:
        story.finish("another", "--plain", keys=("viewspatial",))
        story.finish("limited", "--limit", 2)
        story.hit("interrupted", signal.SIGINT)
    story.hit("killed", signal.SIGKILL)
    story.kill_a_worker("finished")
    story.finish("added", "--plain", keys=("embspatial",))
    return story


@pytest.fixture(scope="module")
def stories(runs: Runs) -> dict[str, Story]:
    """Stories that are made when they are first asked for.

    One that broke off is reported once and fails all its tests.
    """

    class Made(dict[str, Story]):
        def __missing__(self, backend: str) -> Story:
            assert runs.served.is_dir()
            self[backend] = Story(runs, backend, runs.fresh(f"kills-{backend}"), {})
            return told(self[backend])

    return Made()


@pytest.fixture
def story(stories: dict[str, Story], backend: str) -> Story:
    return stories[backend]


def test_a_limited_run_is_marked_partial_everywhere(stories: dict[str, Story]) -> None:
    story = stories["vlmevalkit"]
    step = story.step("limited")
    assert step.launch.code == 0 and step.results is not None, step.launch.said
    assert step.answers == 2 * len(KEYS)
    for key in KEYS:
        line = step.results.line(key)
        assert line["state"] == "partial" and "--limit 2" in line["reason"]
        assert line["n"] == "2" and int(line["total"]) > 20
    payload = step.results.payload
    assert {payload["scores"][key] for key in KEYS} == {None}
    assert {score for key in KEYS for score in payload["subScores"].get(key, {}).values()} <= {None}
    assert step.launch.out.count("partial") >= len(KEYS)


def test_answers_of_a_limited_run_are_used_by_the_whole_one(stories: dict[str, Story]) -> None:
    story = stories["vlmevalkit"]
    for key in KEYS:
        story.folder.texts(key)  # fails if one was generated twice
    limited, whole = story.step("limited"), story.step("interrupted")
    assert whole.answers >= limited.answers + MORE
    assert f"{limited.answers} answers are there and are not asked again" in whole.launch.out


def test_ctrl_c_ends_everything_and_says_how_to_go_on(stories: dict[str, Story]) -> None:
    step = stories["vlmevalkit"].step("interrupted")
    assert step.launch.code == 130, step.launch.said
    assert step.left == (), "nothing is left when the program has ended"
    assert "] Stopping; waiting for the workers to end\n" in step.launch.out
    said, _, command = step.launch.err.splitlines()[-1].partition(" Resume with: ")
    assert said == f"Interrupted; {step.answers} answers kept."
    words = shlex.split(command)
    program = next(place for place, word in enumerate(words) if word.endswith("run_easi_eval.py"))
    assert cli.parse(words[program + 1 :]) == cli.parse(step.launch.options)
    assert "Traceback" not in step.launch.out + step.launch.err


def test_sigterm_while_data_are_prepared_keeps_them(runs: Runs) -> None:
    options = ["--smoke", "--no-rich", "--output-dir", runs.fresh("kills-prepare")]
    with runs.user.start(*options, "--benchmarks", "blink") as launch:
        wait_until(lambda: "] preparing the data" in launch.out, STARTING, launch)
        os.kill(launch.process.pid, signal.SIGTERM)
        launch.wait(90)
    assert launch.code == 130, launch.said
    assert "] Stopping" in launch.out
    # The tiny data may be there by the time of the signal.
    assert re.search(
        r"^Interrupted (while preparing|before the first answer); .*kept\. Resume with: .*blink",
        launch.err,
        re.MULTILINE,
    ), launch.said


def test_ctrl_c_writes_table_and_payload_of_what_is_complete(stories: dict[str, Story]) -> None:
    before, after = (
        stories["vlmevalkit"].step("another").results,
        stories["vlmevalkit"].step("interrupted").results,
    )
    assert before is not None and after is not None
    assert (
        after.line("viewspatial") == before.line("viewspatial")
        and after.line("viewspatial")["state"] == "complete"
    )
    assert (
        after.payload["scores"]["viewspatial"]
        == before.payload["scores"]["viewspatial"]
        is not None
    )
    for key in KEYS:
        assert after.line(key)["state"] == "incomplete" and after.payload["scores"][key] is None


def test_nothing_survives_our_own_sigkill(story: Story) -> None:
    step = story.step("killed")
    assert step.launch.code == -signal.SIGKILL, step.launch.said
    assert step.gone < 10


def test_the_status_of_a_running_a_dead_and_a_finished_run(story: Story) -> None:
    step = story.step("killed")
    name = f"easi-smoke/Tiny-VLM on {story.backend}"
    assert f"{name}: running" in step.running and "questions (" in step.running
    assert f"{name}: dead; the same command resumes it\n" in step.after
    assert re.search(r"^  \d+/\d+ questions \(\d+ %\)", step.after, re.MULTILINE)
    after = story.step("added").after
    total = sum(len(story.folder.items(key)) for key in KEYS)
    assert f"{name}: finished\n" in after
    assert int(re.findall(r"(\d+)/\d+ questions \(100 %\)", after)[0]) > total
    if story.backend == BACKENDS[0]:
        assert f"{name}: interrupted; the same command" in story.step("interrupted").after


def test_a_killed_run_is_finished_by_the_same_command(story: Story, runs: Runs) -> None:
    step = story.step("finished")
    assert step.launch.code == 0 and step.results is not None, step.launch.said
    whole = runs.alone(story.backend)
    for key in KEYS:
        assert step.results.line(key)["state"] == "complete"
        assert step.results.score(key) == whole.results.score(key)
        assert story.folder.texts(key) == whole.folder.texts(key)
    assert not list((story.folder.root / "outputs").glob(".*.sc*")) and not list(
        (story.folder.root / "outputs").glob(".*.failed.json")
    )


def test_no_journaled_answer_is_generated_twice(story: Story) -> None:
    assert twice(story.folder) == []
    assert sum(answer["benchmark"] in KEYS for answer in story.folder.answers) == sum(
        len(story.folder.items(key)) for key in KEYS
    )
    assert story.step("finished").answers - story.step("killed").answers > 10, (
        "much was left to do when it was killed"
    )


def test_a_killed_worker_is_replaced_and_the_other_goes_on(story: Story) -> None:
    number = max(header["launch"] for header in story.folder.records("header"))
    headers = story.folder.records("header", number)
    pids = {
        worker: [header["pid"] for header in headers if header["worker"] == worker]
        for worker in ("w0", "w1")
    }
    assert len(pids["w0"]) == 1, "the other worker was left alone"
    assert len(pids["w1"]) == len(set(pids["w1"])) == 2, "the killed one was started again"
    assert "SIGKILL" in story.step("finished").launch.logs[0].read_text(encoding="utf-8")


def test_plain_adds_a_benchmark_and_gives_the_shared_score(story: Story, runs: Runs) -> None:
    """A later run for fewer benchmarks adds and never removes.

    The backend's own launch gives the same numbers.
    """
    step = story.step("added")
    assert step.launch.code == 0 and step.results is not None, step.launch.said
    whole, before = runs.alone(story.backend), story.step("finished").results
    assert before is not None
    for key in KEYS:
        assert step.results.line(key) == before.line(key)
    assert step.results.score("embspatial") == whole.results.score("embspatial")
    assert step.results.line("embspatial")["state"] == "complete"
    assert {
        key: score for key, score in step.results.payload["scores"].items() if score is not None
    } == {
        key: whole.results.payload["scores"][key]
        for key in (*KEYS, "embspatial", *(["viewspatial"] if "another" in story.steps else []))
    }
    assert step.answers == story.step("finished").answers, "the journal belongs to our own workers"
