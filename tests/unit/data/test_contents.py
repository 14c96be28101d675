"""What a benchmark's data hold, and what a change of them means for answers that are there."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from easi_eval.backends import make_backend
from easi_eval.benchmarks import LMMS_EVAL, VLMEVALKIT, TsvData, by_key
from easi_eval.config import RunConfig
from easi_eval.core.events import Event, Notice
from easi_eval.core.manifest import Manifest
from easi_eval.core.model import ModelChoice
from easi_eval.data.contents import contents
from easi_eval.data.needs import Fetched, FileRecord, HubSettings, Kind, Need
from easi_eval.engine.work import ItemList
from easi_eval.run.data_changes import begin, table_state
from easi_eval.run.decide import make_plan
from easi_eval.run.identity import fingerprint
from easi_eval.run.plan import Plan
from easi_eval.scores import comparability
from easi_eval.scores.score_table import BenchmarkScore, Reading, State
from evaluations import plan_of
from finished import finish

MODEL = ModelChoice("org/m", "org/m", "C", "why")
BLINK = by_key("blink")
HEADER = "index\timage\tquestion\tA\tB\tanswer\tcategory"


def table(folder: Path, *answers: str, question: str = "Which?") -> Fetched:
    path = folder / "BLINK.tsv"
    path.write_text(
        "\n".join(
            [
                HEADER,
                *(
                    f"{number}\tcGljdHVyZQ==\t{question}\tx\ty\t{answer}\tk"
                    for number, answer in enumerate(answers)
                ),
            ]
        )
        + "\n"
    )
    need = Need("q", "some/tables", Kind.FILE, files=("BLINK.tsv",), where=folder)
    return Fetched(
        need,
        "c",
        path,
        1,
        (FileRecord("BLINK.tsv", 1, hashlib.sha256(path.read_bytes()).hexdigest()),),
    )


def parquet(
    folder: Path, answer: str, question: str = "Which?", name: str = "test.parquet"
) -> Fetched:
    pq.write_table(
        pa.table({"image": [b"picture"], "question": [question], "answer": [answer]}), folder / name
    )
    need = Need("q", "some/repo")
    files = (
        FileRecord(name, 1, hashlib.sha256((folder / name).read_bytes()).hexdigest()),
        FileRecord("README.md", 1, answer),
    )
    return Fetched(need, "c", folder, 1, files)


@pytest.mark.parametrize(("backend", "make"), [(VLMEVALKIT, table), (LMMS_EVAL, parquet)])
def test_questions_and_right_answers_are_told_apart(
    backend: str, make: object, tmp_path: Path
) -> None:
    source = BLINK.source(backend)
    first, other_answer, other_question = (
        contents(source, [make(tmp_path, answer, question=question)], tmp_path / "records")
        for answer, question in (("A", "Which?"), ("B", "Which?"), ("A", "Who?"))
    )
    assert (
        first["questions"] == other_answer["questions"] and first["truth"] != other_answer["truth"]
    )
    assert (
        first["questions"] != other_question["questions"]
        and first["truth"] == other_question["truth"]
    )
    again = make(tmp_path, "A", question="Which?")
    kept = sorted((tmp_path / "records").rglob("*.json"))
    assert (
        contents(source, [again], tmp_path / "records") == first
        and sorted((tmp_path / "records").rglob("*.json")) == kept
    )


def test_a_picture_is_part_of_the_question(tmp_path: Path) -> None:
    source, whole = BLINK.source(VLMEVALKIT), table(tmp_path, "A")
    first = contents(source, [whole], tmp_path / "records")
    text = whole.path.read_text().replace("cGljdHVyZQ==", "b3RoZXI=")
    whole.path.write_text(text)
    changed = dataclasses.replace(
        whole, files=(FileRecord("BLINK.tsv", 1, hashlib.sha256(text.encode()).hexdigest()),)
    )
    assert contents(source, [changed], tmp_path / "records")["questions"] != first["questions"]
    media = Fetched(Need("m", "some/media"), "c", tmp_path, 1, (FileRecord("a.zip", 1, "d"),))
    assert contents(source, [whole, media], tmp_path / "records")["questions"] != first["questions"]


def begun(
    tmp_path: Path,
    fetched: Fetched,
    manifest: Manifest | None = None,
    *more: Fetched,
    backend: str = VLMEVALKIT,
) -> tuple[Manifest, list[Event], int]:
    cfg = RunConfig(
        model="org/m",
        model_args="pretrained=org/m" if backend == LMMS_EVAL else "",
        backend=backend,
        output_dir=tmp_path / "out",
        benchmarks=("blink",),
    )
    state = manifest.benchmarks["blink"] if manifest else None
    settings: dict[str, object] = {
        "task": BLINK.source(backend).task,
        **({"data": state.settings["data"]} if state and "data" in state.settings else {}),
    }
    plan = make_plan(cfg, MODEL, "1", {"blink": settings}, manifest, {})
    said: list[Event] = []
    plan, manifest, _ = begin(
        plan,
        plan.manifest(manifest, {}, []),
        {"blink": {each.need.repo: each for each in (fetched, *more)}},
        said.append,
        tmp_path / "records",
    )
    ItemList("blink", 1, ("0",)).save(plan.paths.root)
    assert manifest.benchmarks["blink"].fingerprint == plan.todo[0].fingerprint
    return manifest, said, plan.todo[0].epoch


def test_another_key_is_scored_again_and_other_questions_start_over(tmp_path: Path) -> None:
    first, _, epoch = begun(tmp_path, table(tmp_path, "A"))
    assert epoch == 0
    same, said, epoch = begun(tmp_path, table(tmp_path, "A"), first)
    assert (
        epoch == 0 and same.benchmarks["blink"].fingerprint == first.benchmarks["blink"].fingerprint
    )
    again, said, epoch = begun(tmp_path, table(tmp_path, "B"), same)
    assert epoch == 0 and any(
        "all are scored again" in event.text for event in said if isinstance(event, Notice)
    )
    assert again.benchmarks["blink"].fingerprint != same.benchmarks["blink"].fingerprint
    _, said, epoch = begun(tmp_path, table(tmp_path, "B", question="Who?"), again)
    assert epoch == 1 and any(
        "it starts over" in event.text for event in said if isinstance(event, Notice)
    )


def test_a_run_made_before_goes_on_with_its_answers(tmp_path: Path) -> None:
    first, _, _ = begun(tmp_path, table(tmp_path, "A"))
    old = first.with_state(
        "blink",
        settings={"task": "BLINK"},
        fingerprint=fingerprint(first.identity, {"task": "BLINK"}),
    )
    unrecorded, _, epoch = begun(tmp_path, table(tmp_path, "A"), old)
    assert (
        epoch == 0 and "data" in unrecorded.benchmarks["blink"].settings
    )  # its repository is what it was
    unknown, _, epoch = begun(tmp_path, table(tmp_path, "A"), old.with_state("blink", evidence={}))
    assert epoch == 0 and "data" not in unknown.benchmarks["blink"].settings


def test_a_table_that_cannot_be_read_is_its_own_benchmarks_trouble(tmp_path: Path) -> None:
    broken = table(tmp_path, "A")
    broken.path.write_bytes(b"index\tquestion\n0\t\xff\xfe\n")
    cfg = RunConfig(model="org/m", output_dir=tmp_path / "out", benchmarks=("blink", "site_image"))
    plan = make_plan(cfg, MODEL, "1", {"blink": {}, "site_image": {}}, None, {})
    fetched = {"blink": {broken.need.repo: broken}, "site_image": {}}
    left, _, unreadable = begin(
        plan, plan.manifest(None, {}, []), fetched, lambda event: None, tmp_path / "records"
    )
    assert [step.bench.key for step in left.todo] == ["site_image"]
    assert list(unreadable) == ["blink"] and "cannot be read" in unreadable["blink"].message


# ---- what changed, by files: only what both sides know, and only what a model sees


def model(commit: str = "c", listed: bool = True, **files: str) -> Fetched:
    """``files``: digests by name, with "__" for the dot."""
    need = Need("model", "org/m", repo_type="model")
    records = tuple(
        FileRecord(name.replace("__", "."), 1, said) for name, said in sorted(files.items())
    )
    return Fetched(need, commit, Path("/nowhere"), 1, records, listed=listed)


WEIGHTS = {"config__json": "1", "model__safetensors": "2"}


def test_a_cache_that_nobody_could_write_to_costs_no_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "file").touch()
    source, whole = BLINK.source(VLMEVALKIT), table(tmp_path, "A")
    first = contents(source, [whole], tmp_path / "file" / "records")
    (kept,) = (tmp_path / "cache").rglob("*.json")
    written = kept.stat().st_mtime_ns
    assert contents(source, [whole], tmp_path / "file" / "records") == first
    assert kept.stat().st_mtime_ns == written
    kept.write_text("{")  # damaged: read again, and mended
    assert contents(source, [whole], tmp_path / "file" / "records") == first
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert contents(source, [whole], tmp_path / "file" / "records") == first


@pytest.mark.parametrize(
    ("before", "now", "starts_over"),
    [
        (model(listed=False, **WEIGHTS), model(**WEIGHTS, LICENSE="3", vocab__json="4"), False),
        (model(**WEIGHTS, vocab__json="4"), model(listed=False, **WEIGHTS), False),
        (model(**WEIGHTS), model("d", **WEIGHTS, LICENSE="3", teaser__png="4"), False),
        (model(**WEIGHTS), model("d", **WEIGHTS, chat_template__jinja="3"), True),
        (model(**WEIGHTS), model("d", config__json="1", model__safetensors="9"), True),
        (
            model(**WEIGHTS),
            model("d", listed=False, config__json="1", model__safetensors="9"),
            True,
        ),
    ],
)
def test_of_a_model_what_both_sides_know_is_compared(
    tmp_path: Path, before: Fetched, now: Fetched, starts_over: bool
) -> None:
    first, _, _ = begun(tmp_path, table(tmp_path, "A"), None, before)
    second, _, epoch = begun(tmp_path, table(tmp_path, "A"), first, now)
    assert epoch == starts_over
    _, _, epoch = begun(tmp_path, table(tmp_path, "A"), second, now)
    assert epoch == starts_over  # once


def test_a_whole_listing_is_remembered_over_a_bare_cache(tmp_path: Path) -> None:
    first, _, _ = begun(tmp_path, table(tmp_path, "A"), None, model(**WEIGHTS, vocab__json="4"))
    offline, _, _ = begun(tmp_path, table(tmp_path, "A"), first, model(listed=False, **WEIGHTS))
    _, _, epoch = begun(tmp_path, table(tmp_path, "A"), offline, model(**WEIGHTS, vocab__json="5"))
    assert epoch == 1


def test_runs_made_before_files_were_recorded_go_on(tmp_path: Path) -> None:
    first, _, _ = begun(tmp_path, table(tmp_path, "A"), None, model(**WEIGHTS, LICENSE="3"))
    evidence = {"data": first.benchmarks["blink"].evidence["data"]}
    old = first.with_state("blink", evidence=evidence)
    for now, epoch in (
        (model(**WEIGHTS, LICENSE="3"), 0),  # the digest that was recorded
        (model(listed=False, **WEIGHTS), 0),  # the same commit
        (model("d", config__json="1", model__safetensors="9"), 1),
    ):
        assert begun(tmp_path, table(tmp_path, "A"), old, now)[2] == epoch


def with_files(found: Fetched, **digests: str) -> Fetched:
    more = tuple(FileRecord(path.replace("__", "/"), 1, said) for path, said in digests.items())
    return dataclasses.replace(found, files=(*found.files, *more))


def test_the_pictures_of_a_card_restart_nothing_and_media_do(tmp_path: Path) -> None:
    first, _, _ = begun(tmp_path, parquet(tmp_path, "A"), backend=LMMS_EVAL)
    card = with_files(parquet(tmp_path, "A"), **{"assets/teaser.png": "t", "LICENSE": "l"})
    second, said, epoch = begun(tmp_path, card, first, backend=LMMS_EVAL)
    assert epoch == 0 and not any("starts over" in str(event) for event in said)
    media = with_files(card, **{"frames.zip": "z"})
    assert begun(tmp_path, media, second, backend=LMMS_EVAL)[2] == 1


def test_a_cache_of_the_tables_alone_and_the_whole_listing_are_one(tmp_path: Path) -> None:
    whole = with_files(parquet(tmp_path, "A"), **{"frames.zip": "z", "other.parquet": "o"})
    bare = dataclasses.replace(whole, files=whole.files[:1], listed=False)
    for before, now in ((bare, whole), (whole, bare)):
        first, _, _ = begun(tmp_path, before, backend=LMMS_EVAL)
        again, _, epoch = begun(tmp_path, now, first, backend=LMMS_EVAL)
        assert epoch == 0
        other = with_files(dataclasses.replace(bare, files=()), **{"test.parquet": "x"})
        assert begun(tmp_path, other, again, backend=LMMS_EVAL)[2] == 1


def cached(tmp_path: Path, answer: str, question: str = "Which?") -> Fetched:
    """A snapshot as the hub's client makes it: the table is a link to a blob; an old blob stays."""
    root = tmp_path / "datasets--some--repo"
    folder = root / "snapshots" / f"{answer}{question}"
    folder.mkdir(parents=True, exist_ok=True)
    (root / "blobs").mkdir(exist_ok=True)
    found = parquet(folder, answer, question)
    digest = found.files[0].digest
    (folder / "test.parquet").rename(root / "blobs" / digest)
    (folder / "test.parquet").symlink_to(root / "blobs" / digest)
    return dataclasses.replace(found, revision=folder.name)


def test_parquet_tables_are_read_only_where_their_files_differ(tmp_path: Path) -> None:
    whole = cached(tmp_path, "A")
    content = (tmp_path / "datasets--some--repo" / "blobs" / whole.files[0].digest).read_bytes()
    whole.path.joinpath("test.parquet").resolve().write_bytes(b"no table at all")
    first, _, _ = begun(tmp_path, whole, backend=LMMS_EVAL)  # nobody read it
    assert begun(tmp_path, whole, first, backend=LMMS_EVAL)[2] == 0
    whole.path.joinpath("test.parquet").resolve().write_bytes(content)
    again, said, epoch = begun(tmp_path, cached(tmp_path, "B"), first, backend=LMMS_EVAL)
    assert epoch == 0 and any("all are scored again" in str(event) for event in said)
    assert again.benchmarks["blink"].fingerprint != first.benchmarks["blink"].fingerprint
    assert begun(tmp_path, cached(tmp_path, "B", "Who?"), again, backend=LMMS_EVAL)[2] == 1
    whole.path.joinpath("test.parquet").resolve().unlink()  # nobody can tell any more
    assert begun(tmp_path, cached(tmp_path, "B"), first, backend=LMMS_EVAL)[2] == 1


def test_runs_that_recorded_values_of_parquet_tables_go_on(tmp_path: Path) -> None:
    whole = parquet(tmp_path, "A")
    values = contents(BLINK.source(LMMS_EVAL), [whole], tmp_path / "records")
    first, _, _ = begun(tmp_path, whole, backend=LMMS_EVAL)
    settings = {"task": BLINK.source(LMMS_EVAL).task, "data": values}
    old = first.with_state(
        "blink",
        settings=settings,
        fingerprint=fingerprint(first.identity, settings),
        evidence={"data": first.benchmarks["blink"].evidence["data"]},
    )
    same, _, epoch = begun(tmp_path, parquet(tmp_path, "A"), old, backend=LMMS_EVAL)
    assert (
        epoch == 0 and same.benchmarks["blink"].fingerprint == old.benchmarks["blink"].fingerprint
    )
    other = dataclasses.replace(parquet(tmp_path, "B"), revision="d")
    _, said, epoch = begun(tmp_path, other, old, backend=LMMS_EVAL)
    assert epoch == 0 and any("all are scored again" in str(event) for event in said)


# ---- what is said of them


@pytest.mark.parametrize(
    ("total", "data", "verdict", "told"),
    [
        (1000, {"md5": "548c5f33f1a12948d5355d5f600749e4"}, "yes", ""),
        (999, {"md5": "548c5f33f1a12948d5355d5f600749e4"}, "no", "999 questions instead of 1000"),
        (1000, {"md5": "0" * 32}, "note", "MD5 " + "0" * 32),
        (1000, None, "yes", "not recorded"),
    ],
)
def test_count_and_content_decide(total: int, data: object, verdict: str, told: str) -> None:
    line = BenchmarkScore("mmsi_bench", Reading(1.0), n=total, total=total, state=State.COMPLETE)
    found = comparability.with_comparability(
        line,
        VLMEVALKIT,
        "InternVLChat",
        {"task": "MMSIBench_wo_circular"} | ({"data": data} if data else {}),
    )
    assert (
        found.comparable == verdict
        and told in " ".join(found.notes)
        and bool(told) == bool(found.notes)
    )
    assert (
        comparability.with_comparability(
            line, VLMEVALKIT, "InternVLChat", {}, rehearsal=True
        ).comparable
        == "no"
    )


def test_blinks_old_key_is_told_by_name_and_benchmarks_without_rows_are_never_yes() -> None:
    def told(key: str, md5: str, backend: str = VLMEVALKIT) -> BenchmarkScore:
        line = BenchmarkScore(
            key,
            Reading(1.0),
            n=1,
            total=by_key(key).source(backend).questions,
            state=State.COMPLETE,
        )
        return comparability.with_comparability(line, backend, "internvl3", {"data": {"md5": md5}})

    old, new = (
        told("blink", md5)
        for md5 in ("3b6649b6a662184ea046908e5506260e", "d5e8af148b10ac69f535ff7b23f3f989")
    )
    assert "its data are the old key" in old.notes[0] and old.comparable == "note"
    assert new.comparable == "note" and not any(
        "its data" in note for note in new.notes
    )  # older rows have the old key
    assert {
        told(key, "", backend).comparable
        for key in ("mmsi_video_bench", "vsi_debiased")
        for backend in (VLMEVALKIT, LMMS_EVAL)
    } == {"note"}


def test_a_finished_benchmark_is_looked_at_again_when_its_table_was_changed(tmp_path: Path) -> None:
    """Only the file's size and time are compared, without the hub; answers stay in their epoch."""
    (tmp_path / "Tiny").mkdir()
    (tmp_path / "Tiny" / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    cfg = RunConfig(
        model=str(tmp_path / "Tiny"),
        output_dir=tmp_path / "out",
        dataset_dir=tmp_path,
        benchmarks=("blink",),
    )
    run, path = finish(cfg, ["blink"]), table(tmp_path, "A").path
    backend = make_backend(VLMEVALKIT, HubSettings())
    manifest = Manifest.load(run.paths.manifest)
    assert manifest is not None
    state = manifest.benchmarks["blink"]

    def planned(recorded: list[int]) -> Plan:
        manifest.with_state("blink", evidence={**state.evidence, "table": recorded}).save(
            run.paths.manifest
        )
        return plan_of(cfg, backend)

    assert not planned(table_state(path)).todo
    (step,) = planned([1, 1]).todo
    assert step.epoch == state.epoch and step.aside and "table was changed" in step.reason
    # A table that is gone is fetched anew only if another content than the benchmark's was scored.
    data = BLINK.source(VLMEVALKIT).data
    assert isinstance(data, TsvData)
    expected, old = sorted(data.contents, key=lambda content: content.expected, reverse=True)
    path.unlink()
    for md5, again in ((old.md5, True), (expected.md5, False), ("", False)):
        recorded = {"data": {"md5": md5}} if md5 else {}
        settings = {**state.settings, **recorded}
        manifest.benchmarks["blink"] = dataclasses.replace(
            state, settings=settings, fingerprint=fingerprint(manifest.identity, settings)
        )
        steps = planned([1, 1]).todo
        assert any("table was changed" in step.reason for step in steps) is again
