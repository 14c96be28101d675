"""A backend's command line as its source tells it, also where that is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from easi_eval.backends.lmms_eval.backend import LmmsEval
from easi_eval.backends.shared.parsers import check_words, read_parser
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.data.needs import HubSettings

SOURCE = """
import argparse
from argparse import REMAINDER

NAMES = ["a", "b"]

class Own(argparse.Action):
    pass

def parse_eval_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=NAMES)
    parser.add_argument("--words", nargs=len(NAMES))
    parser.add_argument("--pair", nargs=2, type=int, choices=range(9))
    parser.add_argument("--own", action=Own, nargs=0)
    parser.add_argument("--cache", action=argparse.BooleanOptionalAction)
    parser.add_argument("--rest", nargs=REMAINDER)
    return parser.parse_args()
"""


def test_what_is_computed_is_left_to_the_backends_own_parser(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(SOURCE, encoding="utf-8")
    parser = read_parser(tmp_path / "main.py", "parse_eval_args", "lmms-eval")
    words = "--kind c --words a b --pair 1 2 --own --no-cache --rest --anything 1"
    assert check_words(words.split(), parser, {}, {}) == {
        "kind": "c",
        "words": ["a", "b"],
        "pair": [1, 2],
        "own": [],
        "cache": False,
        "rest": ["--anything", "1"],
    }
    with pytest.raises(EasiError, match="knows no --unheard, --kinds"):
        check_words(["--unheard", "--kinds"], parser, {}, {})


def test_a_checkout_that_computes_its_options_is_no_bug_of_ours(tmp_path: Path) -> None:
    package = tmp_path / "checkout" / "lmms_eval"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    table = 'AVAILABLE_SIMPLE_MODELS = {"mine": "Mine"}'
    (package / "models" / "__init__.py").write_text(table, encoding="utf-8")
    (package / "__main__.py").write_text(SOURCE, encoding="utf-8")
    cfg = RunConfig(
        model="mine",
        model_args="pretrained=a/b",
        backend="lmms-eval",
        backend_path=package.parent,
        backend_args=("--kind", "c", "--no-cache"),
    )
    LmmsEval(HubSettings(hf_home=tmp_path, offline=True)).check(cfg)
