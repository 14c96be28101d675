"""A judge model that cannot be asked is refused.

VLMEvalKit would score by rules and keep the judge's name on the files.
"""

from __future__ import annotations

import pytest

from easi_eval.backends import make_backend
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.data.needs import HubSettings


def _check(judge: str | None) -> None:
    cfg = RunConfig(model="org/m", judge=judge)
    make_backend(cfg.backend, HubSettings()).check(cfg)


@pytest.mark.parametrize("key", [None, ""])
def test_a_judge_model_needs_a_key(key: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPLIT_THINK", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(EasiError, match="--judge gpt-4o-1120 needs OPENAI_API_KEY") as error:
        _check("gpt-4o-1120")
    assert "--judge exact_matching" in error.value.hint
    for rules in (None, "exact_matching", "extract_matching"):
        _check(rules)


def test_with_a_key_it_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPLIT_THINK", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "some key")
    _check("gpt-4o-1120")
