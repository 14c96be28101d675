"""lmms-eval's engine types through the whole program.

There is one engine per share of the GPUs, and pieces are as large as its batch. The engine is a
stand-in that works in batches (``tests/engines``); all else, including lmms-eval's own ``vllm``
class, is real.
"""

from __future__ import annotations

import json

import pytest

from program import REPOSITORY, User, run_folder, twice

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

ENGINES = REPOSITORY / "tests" / "engines"
KEYS = ("mmsi_bench", "viewspatial")
BATCH = 4


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    return User(tmp_path_factory.mktemp("engines"))


def options(user: User, out: str, *more: object) -> list[object]:
    folder = user.root / "Some-VLM"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    return [
        "--smoke",
        "--backend",
        "lmms-eval",
        "--model",
        "vllm",
        "--model-args",
        f"model={folder},tensor_parallel_size=2",
        "--device",
        "cpu",
        "--benchmarks",
        ",".join(KEYS),
        "--no-rich",
        "--output-dir",
        user.root / out,
        *more,
    ]


def engine(user: User, name: str) -> dict[str, str]:
    return {"PYTHONPATH": str(ENGINES), "FAKE_ENGINE_LOG": str(user.root / f"{name}.jsonl")}


def notes(user: User, name: str, what: str) -> list[dict[str, int]]:
    lines = (user.root / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [note for line in lines if (note := json.loads(line))["what"] == what]


def test_engines_share_the_questions_in_pieces_of_their_batch(user: User) -> None:
    launch = user.run(
        *options(user, "shared", "--nproc", 4, "--", "--batch_size", BATCH),
        **engine(user, "shared"),
    )
    assert launch.code == 0, launch.said
    started = notes(user, "shared", "start")
    assert len({note["pid"] for note in started}) == len(started) == 2, "4 GPUs, 2 for each engine"
    assert {note["size"] for note in started} == {2}
    folder = run_folder(user.root / "shared", "lmms-eval", "Some-VLM")
    assert twice(folder) == []
    asked = sum(len(folder.items(key)) for key in KEYS)
    chats = notes(user, "shared", "chat")
    # The first call of each engine is the test question.
    first = {note["pid"]: place for place, note in reversed(list(enumerate(chats)))}
    assert {chats[place]["batch"] for place in first.values()} == {1}
    batches = [note["batch"] for place, note in enumerate(chats) if place not in first.values()]
    assert sum(batches) == asked == len(folder.answers)
    # A piece is smaller only where a benchmark's questions end.
    assert sum(batch < BATCH for batch in batches) <= len(KEYS) * 2
    assert max(batches) >= BATCH


def test_a_question_that_breaks_its_batch_fails_alone(user: User) -> None:
    (samples,) = (user.root / "shared").rglob("*_samples_mmsi_bench.jsonl")
    question = json.loads(samples.read_text(encoding="utf-8").splitlines()[5])["input"]
    launch = user.run(
        *options(user, "poisoned", "--nproc", 2),
        **engine(user, "poisoned"),
        FAKE_ENGINE_POISON=question,
    )
    assert launch.code == 1, launch.said
    folder = run_folder(user.root / "poisoned", "lmms-eval", "Some-VLM")
    broken = [answer for answer in folder.records("answer") if answer["failure"]]
    assert {answer["item"] for answer in broken} == {"mmsi_bench:5"}
    assert "cannot decode the image of one of 1 questions" in broken[0]["failure"]
    assert len(folder.answers) == sum(len(folder.items(key)) for key in KEYS) - 1
    assert max(note["batch"] for note in notes(user, "poisoned", "chat")) > BATCH, (
        "unless told otherwise an engine gets many at once"
    )


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (("--nproc", 3), "no multiple of tensor_parallel_size=2", "--nproc 2"),
        (("--nproc", 1), "no multiple of tensor_parallel_size=2", "--nproc 2"),
    ],
)
def test_gpus_that_do_not_divide_are_refused(
    user: User, args: tuple[object, ...], message: str, hint: str
) -> None:
    launch = user.run(*options(user, "refused", *args), **engine(user, "refused"))
    assert launch.code == 2 and launch.out == ""
    assert message in launch.err and hint in launch.err and launch.err.count("\n") == 2


def test_an_engine_that_is_not_installed_is_refused(user: User) -> None:
    launch = user.run(*options(user, "refused", "--nproc", 2))
    assert launch.code == 2 and launch.err.count("\n") == 2
    assert "needs vllm, which is not installed" in launch.err
