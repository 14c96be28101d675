"""Where classes of lmms-eval cut a model's text, read from their code, and how that is reported."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from easi_eval.backends.lmms_eval import stops
from easi_eval.backends.lmms_eval.backend import LmmsEval
from easi_eval.backends.shared import catalog
from easi_eval.backends.shared.class_source import ClassSource
from easi_eval.backends.shared.lineage import lineage
from easi_eval.benchmarks import LMMS_EVAL
from easi_eval.config import RunConfig
from easi_eval.core.backend_facts import BACKEND_FACTS
from easi_eval.data.needs import HubSettings
from easi_eval.scores.comparability import with_comparability
from easi_eval.scores.score_table import BenchmarkScore, Reading, State

PACKAGE = catalog.locate(BACKEND_FACTS[LMMS_EVAL])
# Read by hand in lmms-eval 0.7.3. llava, slime, tinyllava, ross and many others read `until` and
# never use it; cambrian is not registered.
CUT_THERE = {
    "aero_realtime_vllm",
    "audio_flamingo_3",
    "cosmos_wm",
    "glm4v",
    "kimi_audio",
    "llama4_scout",
    "qwen2_audio",
    "qwen2_vl",
    "qwen_vl",
    "whisper",
}
DROP_IT = {
    "gemma3",
    "gemma4",
    "llava_onevision1_5",
    "penguinvl",
    "qwen2_5_vl",
    "qwen3_5",
    "qwen3_vl",
    "video_salmonn_2",
}


def source(code: str, tmp_path: Path) -> list[ClassSource]:
    path = tmp_path / "own.py"
    path.write_text(textwrap.dedent(code))
    tree = catalog.parsed(path)
    return [
        ClassSource(
            "own", path, next(node for node in tree.body if getattr(node, "name", "") == "M"), tree
        )
    ]


def test_the_installed_classes_that_cut_are_those_that_a_reader_finds() -> None:
    cut, drop = set(), set()
    for name, known in catalog.lmms_models(PACKAGE).models.items():
        for cls in {known.simple, known.chat} - {""}:
            found = stops.cutting(lineage(PACKAGE, cls))
            if found is not None and name == known.model_id:
                (cut if found.stops([stops.INHERITED]) else drop).add(name)
    assert (cut, drop) == (CUT_THERE, DROP_IT)


@pytest.mark.parametrize(
    ("body", "cuts", "dropped"),
    [
        ("for term in until: text = text.split(term)[0]", True, set()),
        (
            "for term in until:\n            if term in text: text = text[:text.index(term)]",
            True,
            set(),
        ),
        ("text = self.trim(text, kwargs.get('until'))", True, set()),
        ("text = tail(text, until)", True, set()),
        (
            "stops = [one for one in until if one != '\\n']\n"
            "        for one in stops: text = text.partition(one)[0]",
            True,
            {"\n"},
        ),
        ("text = self.model.generate(text, stop_strings=until)", True, set()),
        ("# for term in until: text = text.split(term)[0]", False, set()),
        ("for word in text.split(','): text = text.replace(word, '')", False, set()),
        ("until = [until]", False, set()),
    ],
)
def test_what_cuts(body: str, cuts: bool, dropped: set[str], tmp_path: Path) -> None:
    found = stops.cutting(
        source(
            f"""
        def tail(text, until):
            for stop in until or ():
                text = text.split(stop)[0]
            return text

        class M:
            def generate_until(self, text, kwargs):
                until = kwargs.pop("until")
                {body.replace(chr(10) + "        ", chr(10) + " " * 16)}
                return text

            def trim(self, text, until):
                positions = [text.find(stop) for stop in until]
                return text[:min(positions)]
    """,
            tmp_path,
        )
    )
    assert (found is not None) == cuts and (set(found.dropped) if found else set()) == dropped


def resolved(tmp_path: Path, model: str, *backend_args: str):
    cfg = RunConfig(
        backend=LMMS_EVAL, model=model, model_args="pretrained=org/m", backend_args=backend_args
    )
    return LmmsEval(HubSettings(hf_home=tmp_path, offline=True)).resolve(cfg)


def test_the_plan_names_class_stop_string_and_remedy(tmp_path: Path) -> None:
    model = resolved(tmp_path, "qwen2_vl")
    assert model.cuts in model.notes
    assert all(
        word in model.cuts
        for word in (
            "qwen2_vl (Qwen2_VL)",
            "the first blank line",
            "-- --gen_kwargs until=__none__",
        )
    )


@pytest.mark.parametrize(
    ("type_", "args", "cuts"),
    [
        ("qwen2_vl", ("--gen_kwargs", "max_new_tokens=8,until=__none__"), ""),
        (
            "qwen2_vl",
            ("--gen_kwargs=until=END",),
            "cuts every answer at the first 'END', as --gen_kwargs until says",
        ),
        ("qwen2_vl", ("--gen_kwargs", "max_new_tokens=8"), "the first blank line"),
        ("qwen2_5_vl", (), ""),
        ("llava", (), ""),
    ],
)
def test_what_is_said_depends_on_class_and_generation_arguments(
    type_: str, args: tuple[str, ...], cuts: str, tmp_path: Path
) -> None:
    found = resolved(tmp_path, type_, *args).cuts
    assert (cuts in found) if cuts else not found


def test_a_row_of_such_a_class_is_comparable_with_a_note() -> None:
    score = BenchmarkScore("viewspatial", Reading(1.0), n=5712, total=5712, state=State.COMPLETE)
    assert with_comparability(score, LMMS_EVAL, "x", {"data": {}}).comparable == "yes"
    told = with_comparability(score, LMMS_EVAL, "x", {"data": {}}, "it cuts")
    assert told.comparable == "note" and told.notes == ("it cuts",)
    assert (
        with_comparability(replace(score, cut=3), LMMS_EVAL, "x", {"data": {}}).comparable == "note"
    )
