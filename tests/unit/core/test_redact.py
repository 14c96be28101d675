from __future__ import annotations

import pytest

from easi_eval.core.redact import REDACTED, Redactor, secret_argument

HF = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234567"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"token is {HF}.", f"token is {REDACTED}."),
        (f"{HF}{HF}", REDACTED),
        ("key=sk-proj-abc_DEF-0123456789xyz", f"key={REDACTED}"),
        (
            "{'Authorization': 'Bearer abc.def/ghi+jkl='}",
            f"{{'Authorization': 'Bearer {REDACTED}'}}",
        ),
        ("authorization: bearer 12345678", f"authorization: bearer {REDACTED}"),
        ('{"api_key": "0123456789", "model": "m"}', f'{{"api_key": "{REDACTED}", "model": "m"}}'),
        (
            "Namespace(judge_key='0123456789', verbose=True)",
            f"Namespace(judge_key='{REDACTED}', verbose=True)",
        ),
        ("--judge-key 0123456789 --verbose", f"--judge-key {REDACTED} --verbose"),
        ("GET https://user:pass1@host/a@b", f"GET https://user:{REDACTED}@host/a@b"),
        ("AIza" + "x" * 35, REDACTED),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-def_ghi", REDACTED),
    ],
)
def test_what_looks_like_a_secret_goes(line: str, expected: str) -> None:
    assert Redactor().line(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "HF_HUB_ENABLE_HF_TRANSFER=0 hf_transfer hf_hub_download(repo_id='a/b') "
        "hf_overrides={'architectures': []}",
        "max_new_tokens=1024 pad_token: <|endoftext|> tokenizer=Qwen2TokenizerFast",
        "task-specific-instructions-for-models risk-adjusted-return-rate",
        "http://127.0.0.1:8000/v1 file:///a/b:c@d 2024-01-01 12:00:00",
        "The API key is missing; set OPENAI_API_KEY",
        "the bearer of bad news is me",
        "",
        "\ud800 lone surrogate",
        "你好" * 1000,
    ],
)
def test_ordinary_lines_stay(line: str) -> None:
    assert Redactor().line(line) == line


def test_values_of_the_environment_go_by_the_names_of_their_variables() -> None:
    redactor = Redactor.from_environ(
        {
            "MY_TOKEN": "first secret",
            "OPENAI_API_KEY": "second/secret=",
            "db_password": "third.secret",
            "AWS_SECRET_ACCESS_KEY": "fourthsecret",
            "PLAIN": "not a secret",
            "TOKENIZERS_PARALLELISM": "falsefalse",
            "LMDEPLOY_API_KEY": "EMPTY",
            "KEYBOARD": "qwertyuiop",
        }
    )
    text = (
        "first secret|second/secret=|third.secret|fourthsecret|"
        "not a secret|falsefalse|EMPTY|qwertyuiop"
    )
    assert redactor.line(text) == "|".join(
        [REDACTED] * 4 + ["not a secret", "falsefalse", "EMPTY", "qwertyuiop"]
    )
    assert redactor.line("?key=second%2Fsecret%3D&a=b") == f"?key={REDACTED}&a=b"


def test_our_own_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEBODYS_SECRET", "0123 4567")
    assert Redactor.from_environ().line("<0123 4567>") == f"<{REDACTED}>"


def test_of_two_secrets_the_longer_one_wins_and_lines_of_one_count_singly() -> None:
    redactor = Redactor(["abcdefgh", "abcdefghijkl", "-----BEGIN-----\nline one of it\nshort\n"])
    assert redactor.line("abcdefghijkl abcdefgh") == f"{REDACTED} {REDACTED}"
    assert redactor.line("x line one of it y short") == f"x {REDACTED} y short"


def test_secrets_are_literal_text_not_patterns() -> None:
    assert Redactor(["a.c(e[g*"]).line("abcde a.c(e[g*") == f"abcde {REDACTED}"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--hf_hub_log_args", "token=short"], "token"),
        (["pretrained=a/b,api_key='x y'"], "api_key"),
        (["--judge-args", '{"temperature": 0, "key": "abc"}'], "key"),
        (["x={'a': [{'client_secret': 'abc'}]}"], "client_secret"),
        (["--x", "1", "--api-key", "abc"], "--api-key"),
        (["--api-key=abc"], "--api-key"),
        (["first", HF], "a key"),
        (["base_url=http://me:secret@host/v1"], "a key"),
    ],
)
def test_arguments_that_hand_over_a_secret_are_named(words: list[str], name: str) -> None:
    assert secret_argument(words) == name


@pytest.mark.parametrize(
    "words",
    [
        ["--gen_kwargs", "max_new_tokens=1024,temperature=0"],
        ["api_key=EMPTY,base_url=http://127.0.0.1:8000/v1"],
        ["use_auth_token=True"],
        ["pad_token=<|endoftext|>,mask_token=[MASK],image_token_id=151655"],
        ["token="],
        ["key=0"],
        ["cache_keys=some,monkey=long"],
        ["--print_token", "--x"],
        ["pretrained=org/key"],
        ["--judge-args", '{"key": "", "retry": 3}'],
        [],
    ],
)
def test_other_arguments_are_left_alone(words: list[str]) -> None:
    assert secret_argument(words) == ""


def test_every_text_of_a_json_value_is_cleaned_and_its_shape_stays() -> None:
    secret = "0123456789"
    given = {
        "commands": [f"a {secret}"],
        secret: {"n": 1, "ok": None, "deep": ({"text": f"<{secret}>"},)},
    }
    assert Redactor([secret]).within(given) == {
        "commands": [f"a {REDACTED}"],
        secret: {"n": 1, "ok": None, "deep": [{"text": f"<{REDACTED}>"}]},
    }
