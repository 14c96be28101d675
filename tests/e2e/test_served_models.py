"""A model behind an OpenAI-compatible server, through VLMEvalKit's own API class."""

from __future__ import annotations

from pathlib import Path

import pytest

from openai_server import openai_server
from program import SECRETS, Results, RunFolder, User, run_folders

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

ENTRY = "GPT4o_20241120"


def test_answers_of_a_server_arrive_and_its_errors_are_no_answers(tmp_path: Path) -> None:
    first: list[str] = []

    def status(text: str, before: int) -> int:
        """The first question is never answered, the second only at the second attempt.

        Questions are counted in the order in which they arrive.
        """
        if text not in first:
            first.append(text)
        return 500 if text == first[0] or (text in first[1:2] and before == 0) else 200

    user = User(tmp_path)
    with openai_server(status=status, together=4) as server:
        launch = user.run(
            "--smoke",
            "--model",
            ENTRY,
            "--model-args",
            "retry=2,wait=0",
            "--benchmarks",
            "embspatial",
            "--judge",
            "exact_matching",
            "--output-dir",
            tmp_path / "out",
            "--no-rich",
            OPENAI_API_BASE=server.url,
            OPENAI_API_KEY=SECRETS["OPENAI_API_KEY"],
        )
    assert launch.code == 1, launch.said  # one question of a few dozen is more than may fail
    (found,) = run_folders(tmp_path / "out", "vlmevalkit")
    folder = RunFolder(found.root)
    texts, asked = folder.texts("embspatial"), folder.items("embspatial")
    assert len(texts) == len(asked) - 1 >= 10
    assert sorted(texts.values()) == sorted(server.answers.values())
    assert server.most == 4  # --api-nproc: all of them at once, and no more
    assert server.asked[first[1]] == 2
    (failed,) = (record for record in folder.records("answer") if record["failure"])
    assert "the server answered 500" in failed["failure"] and not failed["text"]
    assert server.asked[first[0]] == 2 * 2  # the class tries twice, and so do we
    line = Results(tmp_path / "out").line("embspatial")
    assert line["state"] != "complete" and "1" in line["reason"]
    logged = "".join(path.read_text(encoding="utf-8", errors="replace") for path in launch.logs)
    assert SECRETS["OPENAI_API_KEY"] not in logged
