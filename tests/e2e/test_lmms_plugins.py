"""The worked examples of lmms-eval/README.md, as they stand there.

They are two model types, a task, the log viewer and the HTTP server.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import Runs
from easi_eval.data.local_hub.server import LocalHub
from own_files import KEYS
from program import (
    REPOSITORY,
    RunFolder,
    User,
    a_closed_port,
    answered_otherwise,
    run_folder,
    wait_until,
)
from rehearsal_data import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

README = (REPOSITORY / "lmms-eval" / "README.md").read_text(encoding="utf-8")
# Which fenced block is which file; blocks follow the text that names the file.
FILES = {
    "my-vlm/pyproject.toml": "toml",
    "my-vlm/my_vlm.py": "python",
    "my-tasks/room_side.yaml": "yaml",
    "my-tasks/room_side.py": "python",
    "my-tasks/questions.jsonl": "json",
}


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    """A user who copied the examples from the README and installed the model type.

    The checkpoint is the rehearsal's.
    """
    user = User(tmp_path_factory.mktemp("plugins"))
    for name, language in FILES.items():
        after = README[README.index(f"`{name}`") :]
        path = user.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            re.search(rf"```{language}\n(.*?)```", after, re.DOTALL)[1], encoding="utf-8"
        )
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--target",
            str(site(user)),
            str(user.root / "my-vlm"),
        ],
        check=True,
        cwd=user.root,
    )
    checkpoint.build(user.root / "Tiny-VLM")
    return user


def site(user: User) -> Path:
    return user.root / "site"


def block(heading: str, language: str, number: int = 0) -> str:
    """One fenced block of a section of the README."""
    text = README[README.index(f"\n## {heading}\n") :]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)[number]


def test_a_simple_model_type_of_ones_own_is_evaluated(user: User) -> None:
    launch = user.run(
        "--smoke",
        "--backend",
        "lmms-eval",
        "--model",
        "my_simple_vlm",
        "--model-args",
        f"pretrained={user.root / 'Tiny-VLM'}",
        "--device",
        "cpu",
        "--nproc",
        2,
        "--benchmarks",
        "mmsi_bench",
        "--no-rich",
        "--output-dir",
        user.root / "out",
        PYTHONPATH=str(site(user)),
    )
    assert launch.code == 0, launch.said
    folder = run_folder(user.root / "out", "lmms-eval", "Tiny-VLM")
    assert folder.manifest["model"]["cls"] == "my_simple_vlm"
    assert set(folder.texts("mmsi_bench")) == set(folder.items("mmsi_bench"))
    (line,) = [
        line
        for line in (user.root / "out" / "easi_scores.csv").read_text().splitlines()
        if line.startswith("mmsi_bench,,")
    ]
    assert ",complete," in line


TIMES = 100  # the README's two questions, so often


@dataclass(frozen=True)
class OwnTask:
    """The README's run of a custom task, and its scoring over other answers.

    Once all answers are wrapped and one failed, and once two failed.
    """

    said: str
    run: Path
    again: str
    other: Path
    unscored: str


@pytest.fixture(scope="module")
def own_task(user: User) -> OwnTask:
    questions = user.root / "my-tasks" / "questions.jsonl"
    questions.write_text(questions.read_text(encoding="utf-8").strip() + "\n", encoding="utf-8")
    questions.write_text(questions.read_text(encoding="utf-8") * TIMES, encoding="utf-8")
    after = README[README.index("the second scores:") :]
    answering, scoring = (
        re.search(r"```bash\n(.*?)```", after, re.DOTALL)[1]
        .replace("\\\n", " ")
        .strip()
        .splitlines()
    )
    said = run_line(user, answering) + run_line(user, scoring)
    run, other, unscored = (
        user.root / "runs" / name for name in ("room_side", "other", "unscored")
    )
    for folder, failed in ((other, ["room_side:0"]), (unscored, ["room_side:0", "room_side:1"])):
        answered_otherwise(
            RunFolder(run),
            folder,
            lambda key, item, text: (
                r"\boxed{right}" if int(item.rpartition(":")[2]) % 2 else "<answer>right</answer>"
            ),
        )
        for path in (folder / "journal").glob("*.jsonl"):
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            for line in lines:
                if line["kind"] == "answer" and line["item"] in failed:
                    line |= {"text": None, "failure": "ValueError: no such picture"}
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return OwnTask(
        said,
        run,
        run_line(user, scoring.replace("runs/room_side", "runs/other")),
        other,
        run_line(user, scoring.replace("runs/room_side", "runs/unscored"), code=1),
    )


def run_line(user: User, line: str, code: int = 0) -> str:
    """A line of the README on the CPU, by two workers; what it said."""
    line = line.replace("--nproc-per-node 8", "--nproc-per-node 2").replace(
        "pretrained=org/model", f"pretrained={user.root / 'Tiny-VLM'} --device cpu"
    )
    line = line.replace("torchrun", f"{sys.executable} -m torch.distributed.run").replace(
        "python -m easi", f"{sys.executable} -m easi"
    )
    done = subprocess.run(
        line.split(),
        cwd=user.root,
        capture_output=True,
        text=True,
        timeout=600,
        env=user.environment(PYTHONPATH=str(site(user)), CUDA_VISIBLE_DEVICES="-1"),
    )
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def accuracy(run: Path) -> tuple[float, list[dict[str, object]]]:
    """lmms-eval's own number, and its samples."""
    (results,) = run.rglob("*_results.json")
    (samples,) = run.rglob("*_samples_room_side.jsonl")
    return (
        json.loads(results.read_text(encoding="utf-8"))["results"]["room_side"]["accuracy,none"],
        [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()],
    )


def test_a_task_of_ones_own_is_answered_by_our_workers_and_scored(own_task: OwnTask) -> None:
    number, answers = accuracy(own_task.run)
    assert len(answers) == 2 * TIMES and number == sum(answer["accuracy"] for answer in answers) / (
        2 * TIMES
    )
    assert {path.name.partition(".")[0] for path in (own_task.run / "journal").glob("*.jsonl")} == {
        "w0",
        "w1",
    }


def test_wrapped_answers_and_a_failed_one_do_not_cost_it_its_score(own_task: OwnTask) -> None:
    """Wrapped answers are not diagnosed, because the task's headline is not known.

    The failed question is in none of its numbers, and that is said.
    """
    number, answers = accuracy(own_task.other)
    assert len(answers) == 2 * TIMES - 1
    assert number == pytest.approx((TIMES - 1) / (2 * TIMES - 1)), (
        "every answer says right, and of the 100 questions for which it is one failed"
    )
    assert (
        f"room_side: 1 of {2 * TIMES} questions failed and are in none of lmms-eval's numbers "
        "(ValueError: no such picture)" in own_task.again
    )
    assert (
        "failed and are in none" not in own_task.said
        and "Traceback" not in own_task.said + own_task.again
    )


def test_a_task_without_a_score_is_the_exit_code(own_task: OwnTask) -> None:
    """One of 200 questions may fail."""
    assert re.search(
        rf"2 of {2 * TIMES} questions failed \(first: \S+\): ValueError: no such picture",
        own_task.unscored,
    )


@contextmanager
def server(user: User, heading: str, **changes: str) -> Iterator[str]:
    """The server of a section's first command, until the block ends. Gives its address."""
    port = a_closed_port()
    words = block(heading, "bash").replace("--port 8000", f"--port {port}").split()
    words = words[words.index("python") + 1 :]  # which GPU it sees stands before
    process = subprocess.Popen(
        [sys.executable, *words],
        env=user.environment(CUDA_VISIBLE_DEVICES="-1", **changes),
        cwd=user.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(
            lambda: answers(f"http://127.0.0.1:{port}/health") or process.poll() is not None, 180
        )
        assert not answers(f"http://127.0.0.2:{port}/health"), "it listens on other addresses too"
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # a job of the server has a process of its own
        process.wait()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


def asked(address: str, **query: object) -> object:
    with urllib.request.urlopen(f"{address}?{urllib.parse.urlencode(query)}", timeout=60) as reply:
        return json.load(reply)


def test_our_results_open_in_the_log_viewer(user: User, runs: Runs) -> None:
    whole = runs.alone("lmms-eval")
    logs = whole.folder.root / "outputs"
    with server(user, "The log viewer") as address:
        listed = asked(f"{address}/logs/runs", logs_path=logs)
        assert isinstance(listed, list) and len(listed) == len(KEYS)
        (run,) = [run for run in listed if run["tasks"] == ["mmsi_bench"]]
        shown = asked(
            f"{address}/logs/runs/{run['run_id']}/samples/mmsi_bench", logs_path=logs, limit=100
        )
    assert isinstance(shown, dict)
    assert shown["total"] == len(whole.folder.items("mmsi_bench"))
    texts = whole.folder.texts("mmsi_bench")
    assert {f"mmsi_bench:{row['doc_id']}": row["filtered_resps"] for row in shown["samples"]} == {
        item: text.strip() for item, text in texts.items()
    }


EPOCHS = 2
TRAINING = """
import shutil

epochs, train_one_epoch = {epochs}, lambda: None


def save_checkpoint(folder):
    shutil.copytree("Tiny-VLM", folder)


"""


@pytest.fixture(scope="module")
def trained(user: User, runs: Runs) -> subprocess.CompletedProcess[str]:
    """The training loop of the README, and the jobs that it gave the server."""
    heading = "The HTTP server: checkpoints of a training"
    with (
        LocalHub(runs.served) as hub,
        server(
            user,
            heading,
            PYTHONPATH=str(site(user)),
            HF_ENDPOINT=hub.endpoint,
            HF_HUB_DISABLE_XET="1",
            NO_PROXY="127.0.0.1",
        ) as address,
    ):
        loop = block(heading, "python")
        for old, new in (("http://127.0.0.1:8000", address), ("cuda:0", "cpu")):
            assert old in loop
            loop = loop.replace(old, new)
        return subprocess.run(
            [sys.executable, "-c", TRAINING.format(epochs=EPOCHS) + loop],
            cwd=user.root,
            capture_output=True,
            text=True,
            timeout=600,
            env=user.environment(NO_PROXY="127.0.0.1"),
        )


def test_each_checkpoint_of_a_training_is_evaluated(
    trained: subprocess.CompletedProcess[str], user: User
) -> None:
    assert trained.returncode == 0, trained.stdout[-3000:] + trained.stderr[-3000:]
    for epoch in range(EPOCHS):
        (results,) = (user.root / f"evaluations/epoch{epoch}").rglob("*_results.json")
        assert str(results.relative_to(user.root)) in trained.stdout
        told = json.loads(results.read_text(encoding="utf-8"))
        assert told["config"]["model"] == "my_vlm"
        assert f"checkpoints/epoch{epoch}" in str(told["config"]["model_args"])


def test_results_of_the_server_are_imported(
    trained: subprocess.CompletedProcess[str], user: User
) -> None:
    """Every score is recomputed, and the questions are compared with the data that the job read."""
    assert trained.returncode == 0, trained.stderr[-3000:]
    words = (
        block("The HTTP server: checkpoints of a training", "bash", 1).replace("\\\n", " ").split()
    )
    launch = user.run(*words[2:], "--output-dir", user.root / "imported", "--no-rich")
    assert launch.code == 0, launch.said
    (results,) = (user.root / "evaluations/epoch0").rglob("*_results.json")
    numbers = json.loads(results.read_text(encoding="utf-8"))["results"]["embspatial"]
    (line,) = [
        line
        for line in (user.root / "imported" / "easi_scores.csv").read_text().splitlines()
        if line.startswith("embspatial,,")
    ]
    assert ",complete," in line
    assert float(line.split(",")[2]) == pytest.approx(100 * numbers["embspatial_acc,none"])


def test_the_server_drops_the_device_that_the_client_names() -> None:
    """The README says so, and what works instead."""
    from lmms_eval.entrypoints.job_scheduler import JobScheduler
    from lmms_eval.entrypoints.protocol import EvaluateRequest

    request = EvaluateRequest(model="m", tasks=["t"], device="cuda:1", model_args={"device": "cpu"})
    command = JobScheduler._build_eval_cmd(request.model_dump(), "out")
    assert "cuda:1" not in command and "device=cpu" in command


@pytest.mark.parametrize(
    ("command", "expected"), [(["models"], "qwen2_5_vl"), (["tasks", "list"], "mmsi_bench")]
)
def test_lmms_evals_own_commands_work(user: User, command: list[str], expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lmms_eval", *command],
        cwd=user.root,
        capture_output=True,
        text=True,
        timeout=300,
        env=user.environment(),
    )
    assert done.returncode == 0 and expected in done.stdout, (
        done.stdout[-2000:] + done.stderr[-2000:]
    )
