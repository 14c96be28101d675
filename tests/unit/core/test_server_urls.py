"""Addresses as ``--base-url`` takes them."""

from __future__ import annotations

import pytest

from easi_eval.core.errors import EasiError
from easi_eval.core.server_urls import on_this_machine, server_urls


@pytest.mark.parametrize("text", ["http://[::1", "http://[zz]:1", "http://host:x", "host:8000"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(EasiError, match="not an http") as told:
        server_urls(text)
    assert "http://HOST:PORT/v1" in told.value.hint


@pytest.mark.parametrize(
    "text", ["http://me:hidden@host:0", "http://me:hidden@[::1", "x://me:hidden@h"]
)
def test_a_password_is_never_shown(text: str) -> None:
    with pytest.raises(EasiError) as told:
        server_urls(text)
    assert "hidden" not in told.value.message + told.value.hint


def test_a_path_may_have_any_characters() -> None:
    assert server_urls("http://host/@cf/v1/") == ("http://host/@cf/v1",)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("127.0.1.1", True),
        ("[::1]", True),
        ("0.0.0.0", True),
        ("10.0.0.1", False),
        ("node7", False),
        ("localhost.example.org", False),
    ],
)
def test_which_addresses_are_this_machine(host: str, here: bool) -> None:
    assert on_this_machine(f"http://{host}:8000/v1") is here
