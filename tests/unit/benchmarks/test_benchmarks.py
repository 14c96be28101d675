"""The registry is complete, consistent between the backends, and true of the installed packages.

The packages are read, and imported by tests that are marked slow.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from easi_eval.backends.lmms_eval import caveats, corrections
from easi_eval.benchmarks import (
    ALL_KEYS,
    BACKENDS,
    BENCHMARKS,
    CORE_KEYS,
    GROUPS,
    LMMS_EVAL,
    REHEARSED_KEYS,
    TEXTS,
    VLMEVALKIT,
    Benchmark,
    HubData,
    Source,
    TsvData,
    by_key,
    group_by_key,
    headline_keys,
    load,
    parse_keys,
)
from easi_eval.core.errors import EasiError
from easi_lmms_eval import scoring_probe
from genuine import facts
from rehearsal_data import repositories


def package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        pytest.skip(f"{name} is not installed")
    return Path(found.origin).parent


def test_keys_and_order() -> None:
    assert CORE_KEYS == (
        "vsi_bench",
        "mmsi_bench",
        "mindcube_tiny",
        "viewspatial",
        "site_image",
        "site_video",
        "blink",
        "3dsrbench",
        "embspatial",
    )
    assert ALL_KEYS[: len(CORE_KEYS)] == CORE_KEYS
    assert len({bench.order for bench in BENCHMARKS}) == len(BENCHMARKS)
    assert headline_keys() == (
        "vsi_bench",
        "mmsi_bench",
        "mindcube_tiny",
        "viewspatial",
        "site",
        "blink",
        "3dsrbench",
        "embspatial",
    )


@pytest.mark.parametrize("bench", BENCHMARKS, ids=lambda bench: bench.key)
def test_both_backends_have_the_same_sub_scores_unless_said_why(bench: Benchmark) -> None:
    named = []
    for source in bench.sources.values():
        here = {part.name for part in source.parts}
        assert len(here) == len(source.parts) and not here & set(source.absent)
        assert all(source.absent.values())
        named.append(here | set(source.absent))
    assert named[0] == named[1] != set()


def test_the_code_that_an_entry_names_exists() -> None:
    known = {correction.id for correction in corrections.CORRECTIONS}
    for bench in BENCHMARKS:
        source = bench.source(LMMS_EVAL)
        assert source.readable is None or source.readable.check in scoring_probe.CHECKS
        assert not source.caveat or source.caveat in caveats.COUNTED
        assert set(source.corrections) <= known


def test_the_rehearsal_has_the_benchmarks_whose_entries_say_so() -> None:
    assert repositories.ASKED.keys() == set(REHEARSED_KEYS)


def test_names_are_used_once() -> None:
    for backend in BACKENDS:
        tasks = [
            task
            for bench in BENCHMARKS
            for source in (bench.source(backend), *bench.source(backend).variants.values())
            for task in dict.fromkeys((source.task, *source.subtasks))
        ]
        assert len(tasks) == len(set(tasks))
    tsvs = [bench.source(VLMEVALKIT).data for bench in BENCHMARKS]
    sums = [content.md5 for data in tsvs if isinstance(data, TsvData) for content in data.contents]
    assert len(set(sums)) == len(sums) == len(BENCHMARKS) + 1  # BLINK has two


def test_site_is_pooled_from_its_two_halves() -> None:
    site = group_by_key("site")
    assert site.members == ("site_image", "site_video") and len(site.parts) == 6
    for key in site.members:
        for source in by_key(key).sources.values():
            assert {part.name: part.types for part in source.parts} == {
                part.name: part.types for part in site.parts
            }
            assert source.rows.options or source.rows.chance
    assert [group.key for group in GROUPS] == ["site"]


@pytest.mark.parametrize(
    "typed, keys",
    [
        (None, CORE_KEYS),
        ("blink", ("blink",)),
        (" BLINK , vsi_bench,", ("vsi_bench", "blink")),
        ("blink vsi_bench", ("vsi_bench", "blink")),
        ("sitebench", ("site_image", "site_video")),
        ("Site,blink,site_image", ("site_image", "site_video", "blink")),
        ("omnispatial", ("omnispatial_(manual_cot)",)),
        ("omnispatial_(manual_cot)", ("omnispatial_(manual_cot)",)),
    ],
)
def test_parse_keys(typed: str | None, keys: tuple[str, ...]) -> None:
    assert parse_keys(typed) == keys


def test_parse_keys_with_extras() -> None:
    assert parse_keys(None, include_extra=True) == ALL_KEYS
    assert parse_keys("blink", include_extra=True) == ("blink", *ALL_KEYS[len(CORE_KEYS) :])


@pytest.mark.parametrize("typed", ["", " , ,", "\t"])
def test_an_empty_list_is_refused(typed: str) -> None:
    with pytest.raises(EasiError, match="names no benchmark"):
        parse_keys(typed)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(EasiError, match="unknown benchmark vsibench") as caught:
        parse_keys("blink,vsibench")
    assert "vsi_bench?" in caught.value.hint


@pytest.mark.parametrize(
    "old, new, said",
    [
        (
            'title = "VSI-Bench"',
            'titel = "VSI-Bench"',
            "vsi_bench.toml: unknown key titel, did you mean title",
        ),
        ('title = "VSI-Bench"\n', "", "vsi_bench.toml: missing key title"),
        ('overall = "vsibench_overall"\n', "", "vsi_bench.toml, lmms-eval: missing key overall"),
        (
            'contents = [{ md5 = "34544fd83241391d83eff087a1be7d83", expected = true }]\n',
            "",
            "vsi_bench.toml, vlmevalkit.data: missing key contents",
        ),
        (
            'contents = [{ md5 = "34544fd83241391d83eff087a1be7d83", expected = true }]',
            "contents = []",
            "one of contents has to be expected",
        ),
        (
            'layout = "wide_last_row"',
            'layout = "tall"',
            "spar_bench.toml, vlmevalkit: layout is 'tall'",
        ),
        (
            'msr_accuracy = { key = "MSR_accuracy"',
            'msr_accuracy = { kee = "MSR_accuracy"',
            "parts.msr_accuracy: unknown key kee",
        ),
        (
            'msr_accuracy = { key = "MSR_accuracy", types = ["MSR"] }',
            "msr_accuracy = {}",
            "needs key or types",
        ),
        (
            '"site_image", "site_video"]',
            '"site_image", "site_vid"]',
            "site_image.toml, group: unknown member site_vid",
        ),
    ],
)
def test_loading_refuses_by_name(old: str, new: str, said: str) -> None:
    key = next(bench.key for bench in BENCHMARKS if old in TEXTS[bench.key])
    with pytest.raises(EasiError) as caught:
        load({**TEXTS, key: TEXTS[key].replace(old, new, 1)})
    assert said in caught.value.message


def test_a_benchmark_without_one_backend_is_refused() -> None:
    with pytest.raises(EasiError, match=r"blink\.toml: missing key lmms-eval"):
        load({**TEXTS, "blink": TEXTS["blink"].replace("[lmms-eval", "[lmms")})


@pytest.mark.parametrize("bench", BENCHMARKS, ids=lambda bench: bench.key)
def test_vlmevalkit_facts_are_those_of_the_package(bench: Benchmark) -> None:
    root = package("vlmeval")
    source, known = bench.source(VLMEVALKIT), facts(bench.key)[VLMEVALKIT]
    data = source.data
    assert isinstance(data, TsvData)
    text = (root.parent / known["module"]).read_text(encoding="utf-8")
    assert f"class {known['cls']}(" in text
    assert any(content.md5 in text for content in data.contents) and data.tsv in text
    assert data.media_repo in text and data.media_sentinel in text
    for pattern in (*data.media_allow, *data.media_ignore):
        assert pattern in text
    if frames := known.get("frames"):
        config = (root / "dataset" / "video_dataset_config.py").read_text(encoding="utf-8")
        written = (
            f"'{source.task}': partial({known['cls']}, dataset='{data.dataset}', nframe={frames})"
        )
        # VSI: every subset times every variant
        built = f"({data.dataset.partition('-')[0].lower()}_subsets, {known['cls']})"
        assert written in config or (
            built in config
            and f'("{frames}frame", dict(nframe={frames}))' in config
            and f"'{data.dataset}'" in text
        )


@pytest.mark.slow
def test_every_task_is_a_dataset_of_vlmevalkit(tmp_path: Path) -> None:
    code = (
        "from vlmeval.dataset import SUPPORTED_DATASETS, supported_video_datasets\n"
        "print('datasets:', *SUPPORTED_DATASETS, *supported_video_datasets, sep='\\n')"
    )
    home = {"HOME": str(tmp_path), "LMUData": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **home},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    datasets = ran.stdout.partition("datasets:\n")[2].splitlines()
    assert [
        bench.key for bench in BENCHMARKS if bench.source(VLMEVALKIT).task not in datasets
    ] == []


def test_every_group_of_tasks_is_one_of_lmms_eval() -> None:
    tasks = package("lmms_eval") / "tasks"
    groups = [source.task for bench in BENCHMARKS if (source := bench.source(LMMS_EVAL)).subtasks]
    assert [yaml_of(tasks, group) for group in groups]


def yaml_of(root: Path, task: str) -> str:
    """The text of one task's yaml and of those it includes."""
    for path in root.rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        if re.search(rf'^(task|group): ["\']?{re.escape(task)}["\']?\s*$', text, re.MULTILINE):
            include = re.search(r"^include: (\S+)", text, re.MULTILINE)
            return (
                text
                + "\n"
                + ((path.parent / include[1]).read_text(encoding="utf-8") if include else "")
            )
    raise AssertionError(f"no task {task}")


def lmms_sources() -> Iterator[tuple[Source, dict[str, Any]]]:
    """Each task with what only tests know of it."""
    for bench in BENCHMARKS:
        source, known = bench.source(LMMS_EVAL), facts(bench.key)[LMMS_EVAL]
        yield source, known
        for name, variant in source.variants.items():
            yield variant, known["variants"][name]


@pytest.mark.parametrize(
    ("source", "known"), tuple(lmms_sources()), ids=lambda value: getattr(value, "task", "")
)
def test_lmms_eval_facts_are_those_of_the_package(source: Source, known: dict[str, Any]) -> None:
    tasks = package("lmms_eval") / "tasks"
    data = source.data
    assert isinstance(data, HubData)
    texts = [yaml_of(tasks, task) for task in source.tasks]
    for place, text in enumerate(texts):
        assert re.search(rf"^dataset_path: {re.escape(data.repo)}\s*$", text, re.MULTILINE)
        assert re.search(rf"^test_split: {data.split}\s*$", text, re.MULTILINE)
        assert bool(re.search(r"^\s+token: True", text, re.MULTILINE)) == known["needs_token"]
        if data.configs:
            assert re.search(
                rf'^dataset_name: "?{re.escape(data.configs[place])}"?\s*$', text, re.MULTILINE
            )
        # deeper ones belong to single models
        limits = re.findall(r"^  max_new_tokens: (\d+)", text, re.MULTILINE)
        assert limits == ([str(known["max_new_tokens"])] if "max_new_tokens" in known else [])
        keys = {part.key for part in source.parts if part.key and "|" not in part.key} | {
            source.overall
        }
        missing = [
            key
            for key in keys
            if not re.search(rf'- metric: ["\']?{re.escape(key)}["\']?\s*$', text, re.MULTILINE)
        ]
        assert missing == []
