"""Where a judge is asked, and the one question before anything is started."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from easi_eval.backends.vlmevalkit import judge_endpoint
from easi_eval.backends.vlmevalkit.judge_endpoint import OFFICIAL, Endpoint, normalise, probe
from easi_eval.core.errors import EasiError
from judge_server import KEY, judge_server
from program import a_closed_port


@pytest.mark.parametrize(
    "base, url",
    [
        ("", OFFICIAL),
        ("OFFICIAL", OFFICIAL),
        ("https://api.openai.com/v1", OFFICIAL),
        ("https://api.openai.com/v1/", OFFICIAL),
        ("https://api.openai.com", OFFICIAL),
        (OFFICIAL, OFFICIAL),
        (OFFICIAL + "/", OFFICIAL),
        (" http://h:8000/v1 ", "http://h:8000/v1/chat/completions"),
        ("http://h:8000", "http://h:8000/v1/chat/completions"),
        ("https://h/proxy/openai", "https://h/proxy/openai/chat/completions"),
        (
            "https://h/openai/deployments/d/chat/completions?api-version=1",
            "https://h/openai/deployments/d/chat/completions?api-version=1",
        ),
    ],
)
def test_both_spellings_of_the_address(base: str, url: str) -> None:
    assert normalise(base) == url


@pytest.mark.parametrize("base", ["localhost:8000", "ftp://h/v1", "https://", "h/v1"])
def test_what_is_no_address_is_refused(base: str) -> None:
    with pytest.raises(EasiError, match="OPENAI_API_BASE is no"):
        normalise(base)


def test_a_key_is_needed_and_the_address_is_shown_without_secrets() -> None:
    with pytest.raises(EasiError, match="OPENAI_API_KEY"):
        judge_endpoint.endpoint({})
    where = judge_endpoint.endpoint(
        {"OPENAI_API_KEY": "k", "OPENAI_API_BASE": "https://user:word@h:1/v1?secret=2"}
    )
    assert where.shown == "https://h:1/v1/chat/completions" and "user:word@" in where.url


@pytest.mark.parametrize("text, value", [("", None), ("2", 2.0), (" 0.5 ", 0.5)])
def test_the_time_for_a_question(text: str, value: float | None) -> None:
    assert judge_endpoint.seconds({"EASI_JUDGE_TIMEOUT": text}) == value


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan"])
def test_no_time(text: str) -> None:
    with pytest.raises(EasiError, match="EASI_JUDGE_TIMEOUT"):
        judge_endpoint.seconds({"EASI_JUDGE_TIMEOUT": text})


def test_the_names_are_those_of_the_installed_package(tmp_path: Path) -> None:
    spec = find_spec("vlmeval")
    assert spec is not None and spec.origin is not None
    package = Path(spec.origin).parent
    assert judge_endpoint.model_name(package, "gpt-4o-1120") == "gpt-4o-2024-11-20"
    assert judge_endpoint.model_name(package, "my-judge") == "my-judge"
    assert judge_endpoint.model_name(tmp_path, "gpt-4o-1120") == "gpt-4o-1120"


# ---- the probe -----------------------------------------------------------------------------------


def test_a_judge_that_answers_is_asked_once() -> None:
    with judge_server(model="m") as server:
        probe(Endpoint(normalise(server.base), KEY), "m")
        assert server.asked == ["hello"]


@pytest.mark.parametrize("mode", ["empty", "429"])
def test_a_silent_or_busy_one_will_do(mode: str) -> None:
    with judge_server(mode=mode) as server:
        probe(Endpoint(server.url, KEY), "m")


@pytest.mark.parametrize(
    "mode, key, model, what, names",
    [
        ("answers", "sk-wrong", "m", "refuses OPENAI_API_KEY (HTTP 401)", "OPENAI_API_KEY"),
        ("answers", KEY, "unknown", "answers HTTP 404", "--judge"),
        ("500", KEY, "m", "answers HTTP 500: ", "OPENAI_API_BASE"),
        ("garbage", KEY, "m", "not with a chat completion", "OPENAI_API_BASE"),
        ("hang", KEY, "m", "does not answer within 1 s", "OPENAI_API_BASE"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    mode: str, key: str, model: str, what: str, names: str
) -> None:
    with judge_server(mode=mode, model="m") as server, pytest.raises(EasiError) as error:
        probe(Endpoint(server.url, key), model, timeout=1)
    told = error.value
    assert what in told.message and "\n" not in told.message + told.hint
    assert names in told.hint and "--judge exact_matching" in told.hint
    assert (
        key not in told.message + told.hint
        and f"the judge {model} at http://127.0.0.1:" in told.message
    )


@pytest.mark.parametrize(
    "base, what",
    [
        (f"http://127.0.0.1:{a_closed_port()}/v1", "connection refused"),
        ("http://judge.invalid/v1", "cannot be reached"),
    ],
    ids=["closed port", "no host"],
)
def test_what_is_not_there(base: str, what: str) -> None:
    with pytest.raises(EasiError, match=what) as error:
        probe(Endpoint(normalise(base), KEY), "m", timeout=5)
    assert "OPENAI_API_BASE" in error.value.hint


def test_a_wrong_path_is_told() -> None:
    with judge_server() as server, pytest.raises(EasiError, match="HTTP 404"):
        probe(Endpoint(normalise(server.base + "/elsewhere"), KEY), "m")
