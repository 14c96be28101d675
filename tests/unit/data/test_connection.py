"""Settings of the network that can never work are refused; those that can are not."""

from __future__ import annotations

import importlib.util

import pytest

from easi_eval.core.errors import EasiError
from easi_eval.data.connection import refuse_unusable
from easi_eval.data.needs import HubSettings

ENDPOINT = "https://huggingface.co"


@pytest.mark.parametrize(
    ("token", "endpoint", "environ", "words"),
    [
        ("hf_\u4f60\u7684token", ENDPOINT, {}, "HF_TOKEN"),
        ("hf_a\nb", ENDPOINT, {}, "HF_TOKEN"),
        ("hf_a b", ENDPOINT, {}, "HF_TOKEN"),
        ("'hf_ab'", ENDPOINT, {}, "quotation marks"),
        (None, "hf-mirror.com", {}, "HF_ENDPOINT"),
        (None, "localhost:8080", {}, "HF_ENDPOINT"),
        (None, "ftp://hf-mirror.com", {}, "HF_ENDPOINT"),
        (None, "https://", {}, "HF_ENDPOINT"),
        (None, "https://mirror:port", {}, "HF_ENDPOINT"),
        (None, "https://mirror:99999", {}, "HF_ENDPOINT"),
        (None, "https://mir ror", {}, "HF_ENDPOINT"),
        (
            None,
            ENDPOINT,
            {"ALL_PROXY": "socks5h://127.0.0.1:9"},
            "ALL_PROXY is a SOCKS proxy, for which the package PySocks",
        ),
        (None, ENDPOINT, {"https_proxy": "socks5://127.0.0.1:9"}, "https_proxy is a SOCKS proxy"),
        (None, ENDPOINT, {"HTTPS_PROXY": "http://host:port"}, "HTTPS_PROXY is not the address"),
    ],
)
def test_refused(token: str | None, endpoint: str, environ: dict[str, str], words: str) -> None:
    with pytest.raises(EasiError) as caught:
        refuse_unusable(HubSettings(endpoint=endpoint, token=token), environ)
    assert words in caught.value.message and caught.value.hint
    assert "hf_a" not in caught.value.message + caught.value.hint
    assert "again" not in caught.value.hint.replace("anew", ""), "trying again never helps"


@pytest.mark.parametrize(
    ("token", "endpoint", "environ"),
    [
        ("hf_abc", ENDPOINT, {}),
        ("eyJhbGciOi.J9-_~+/=", ENDPOINT, {}),
        (None, "http://127.0.0.1:8080/hub", {}),
        (None, "https://[::1]:8080", {}),
        (None, "http://user:password@mirror", {}),
        (None, ENDPOINT, {"HTTPS_PROXY": "proxy:3128", "ALL_PROXY": "socks5://127.0.0.1:9"}),
        (None, ENDPOINT, {"https_proxy": "http://user:pass@proxy:3128/"}),
        (None, ENDPOINT, {"http_proxy": "socks5://127.0.0.1:9"}),
        (None, ENDPOINT, {"ALL_PROXY": ""}),
    ],
)
def test_not_refused(token: str | None, endpoint: str, environ: dict[str, str]) -> None:
    refuse_unusable(HubSettings(endpoint=endpoint, token=token), environ)


def test_a_proxy_that_is_not_used_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.0/8,.inside")
    for endpoint in ("http://127.0.0.1:99", "https://hub.inside"):
        refuse_unusable(HubSettings(endpoint=endpoint), {"ALL_PROXY": "socks5://127.0.0.1:9"})
    refuse_unusable(HubSettings(offline=True), {"ALL_PROXY": "socks5://127.0.0.1:9"})


def test_a_socks_proxy_with_its_package_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    refuse_unusable(HubSettings(), {"ALL_PROXY": "socks5h://127.0.0.1:9"})
