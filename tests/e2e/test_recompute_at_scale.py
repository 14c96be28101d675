"""Our recomputation agrees with the backends' own scores at the size of the real benchmarks.

The questions are answered at random and scored by the backends' own code. Each backend is imported
once, in its own process, and leaves its own result files, which our readers read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from easi_eval.backends.lmms_eval.question_rows import read_lmms_rows
from easi_eval.backends.lmms_eval.reader import read_lmms_scores
from easi_eval.backends.lmms_eval.result_files import find_lmms_outputs
from easi_eval.backends.lmms_eval.samples import source_of
from easi_eval.backends.vlmevalkit.question_rows import read_vlmevalkit_rows
from easi_eval.backends.vlmevalkit.reader import read_vlmevalkit_scores
from easi_eval.backends.vlmevalkit.result_files import find_vlmevalkit_outputs
from easi_eval.benchmarks import ALL_KEYS, LMMS_EVAL, VLMEVALKIT, Benchmark, Source, by_key
from easi_eval.scores.recompute import disagreement, recompute, wrong_scores
from easi_eval.scores.score_table import Reading
from easi_eval.submission.archive.size_forecast import questions
from genuine import facts

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

# Rows of 3DSRBench come in fours here.
SIZES = {key: questions(key, VLMEVALKIT) // 4 * 4 for key in ALL_KEYS}
# Its module fetches its whole repository when it is imported; its score is the mean of the rows.
NOT_IMPORTABLE = "omnispatial_(manual_cot)"
CIRCULAR = "3dsrbench_circular"

# Makes each dataset's table, without media, answers it at random and runs the dataset's own
# evaluation.
VLMEVALKIT_SCRIPT = """
import json, pickle, random, sys
import pandas as pd
import vlmeval.dataset as datasets
from vlmeval.dataset.mmsibench import MMSIVideoBench
from vlmeval.dataset.omnispatialbench import OmniSpatialBench

ABOVE = {"mmsi_video_bench": MMSIVideoBench.category_task_order(), "omnispatial_(manual_cot)": OmniSpatialBench.CATEGORY_TASK_ORDER}
FORMS = ("{0}", "{0}.", "({0})", "The answer is {0}", "{0}. left", "<answer>{0}</answer>", "")

def qids(size):
    for at in range(size // 4 + 1):
        base = f"{at:08}"
        yield from (base, base + "-1", base + "-flip", base + "-flip-1")

def number(luck, right):
    return str(round(luck.choice((right, right * luck.uniform(0.4, 1.6), luck.uniform(0, 9))), luck.randrange(4)))

def rows(job, luck):
    names, made = qids(job["size"]), []
    for at in range(job["size"]):
        kind = job["kinds"][at % len(job["kinds"])] if at < 3 * len(job["kinds"]) else luck.choice(job["kinds"])
        options = luck.randrange(2, 9) if job["options"] else 4
        letters = "ABCDEFGH"[:options]      # the package's rules know six of them
        row = {"index": at, "question": "?", job["question_type"]: kind, "answer": luck.choice(letters), **dict.fromkeys("ABCD", "x")}
        row["prediction"] = luck.choice(FORMS).format(luck.choice(letters))
        if kind in job["numeric"]:
            right = round(luck.choice((luck.uniform(0.1, 9), luck.randrange(1, 20), 0)), 2)
            row |= {"answer": right, "prediction": luck.choice(("", "no idea", "about " + number(luck, right), number(luck, right)))}
        elif kind == "view_change_infer":
            move = "move_right:{0},move_up:{1},move_forward:0.3,rotate_right:10,rotate_up:5"
            row |= {"answer": move.format(1, 2), "prediction": luck.choice(("", move.format(1, 2), move.format(luck.randrange(3), luck.uniform(1, 3))))}
        if job["options"]:
            row[job["options"]] = str(list(letters))
        if job["key"] == "3dsrbench":
            row["qid"] = next(names)
        if job["key"] in ABOVE:
            row["task_type"] = next(above for above, below in ABOVE[job["key"]].items() if kind in below)
        made.append(row)
    return pd.DataFrame(made)

for job in json.loads(sys.argv[1]):
    luck = random.Random(job["key"])
    table = rows(job, luck)
    cls = getattr(datasets, job["cls"], None) or next(c for c in datasets.DATASET_CLASSES if c.__name__ == job["cls"])
    source = cls.__new__(cls)
    source.data, source.dataset_name = table, job["dataset"]
    file = f"M_{job['task']}.xlsx"
    table.to_excel(file, index=False, engine="xlsxwriter")
    if job["key"] in ("blink", "3dsrbench"):     # asked from here instead of pools of processes; the groups are its own
        with open(f"M_{job['task']}_exact_matching_result.pkl", "wb") as known:
            pickle.dump({at: {"hit": luck.random() < 0.6, "log": ""} for at in range(len(table))}, known)
    source.evaluate(file, model="exact_matching", nproc=1)
"""  # noqa: E501 -- lines of a program in a string

# For each task: random documents, its own process_results, and its own aggregation of every metric
# of its YAML file.
LMMS_SCRIPT = """
import importlib, json, random, re, sys
from pathlib import Path
import lmms_eval.tasks

TASKS = Path(lmms_eval.tasks.__file__).parent

def functions(path):
    # (metric -> its aggregation), process_results: from the YAML file and what it includes, each name in the utils beside its file
    text = path.read_text()
    included = re.search(r"^include: (\\S+)", text, re.M)
    metrics, process = functions((path.parent / included[1]).resolve()) if included else ({}, None)
    listed = re.findall(r"metric: ['\\"]?([^'\\"\\n]+?)['\\"]?\\s*\\n\\s*aggregation: !function utils\\.(\\w+)", text)
    named = re.search(r"process_results: !function utils\\.(\\w+)", text)
    return {name: (path.parent, function) for name, function in listed} or metrics, (path.parent, named[1]) if named else process

def called(place):
    folder, name = place
    return getattr(importlib.import_module("lmms_eval.tasks." + ".".join((*folder.relative_to(TASKS).parts, "utils"))), name)

def doc(job, at, luck):
    kind = job["kinds"][at % len(job["kinds"])] if at < 3 * len(job["kinds"]) else luck.choice(job["kinds"])
    letters = "ABCDEF"[:luck.randrange(2, 7)] if job["key"].startswith("site") else "ABCD"
    letter, answer = luck.choice(letters), luck.choice(("{0}", "{0}.", "The answer is {0}", "")).format(luck.choice(letters))
    number = str(round(luck.uniform(0.1, 9), 1))
    one = {"id": f"{kind}_{at}", "idx": at, "index": at, "question_id": at, "question": "?", "question_type": kind, "category": kind, "type": kind,
           "task": kind, "options": list(letters), "choices": list(letters), "dataset": "d", "scene_name": f"s{at}", "sub_task": kind, "relation": "r",
           "data_source": kind, "answer": letter, "gt_answer": letter, "ground_truth": letter}
    if job["key"] == "embspatial":
        one["answer"] = "ABCD".index(letter)
    if job["key"] == "viewspatial":
        one["answer"] = f"{letter}. left"
    if job["key"] == "3dsrbench":
        one["qid"] = f"{at // 4:08}" + ("", "-1", "-flip", "-flip-1")[at % 4]
    if kind in job["numeric"]:
        one |= {"answer": number, "ground_truth": number}
        answer = luck.choice((number, str(round(float(number) * luck.uniform(0.5, 1.5), 2)), "three", ""))
    if kind == "view_change_infer":
        move = "move_right:{0},move_up:{1},move_forward:0.3,rotate_right:10,rotate_up:5"
        one["answer"], answer = move.format(1, 2), luck.choice((move.format(1, 2), move.format(luck.randrange(3), 2.2), ""))
    return one, answer

results, counts = {}, {}
for job in json.loads(sys.argv[1]):
    luck = random.Random(job["key"])
    random.seed(job["key"])
    (path,) = [path for path in TASKS.rglob("*.yaml") if re.search(rf"^task: ['\\"]?{job['task']}['\\"]?\\s*$", path.read_text(), re.M)]
    metrics, process = functions(path)
    scored = called(process)
    values = {}
    with open(f"20260101_000000_samples_{job['task']}.jsonl", "w") as file:
        for at in range(job["size"]):
            one, answer = doc(job, at, luck)
            found = scored(dict(one), [answer])
            for name, value in found.items():
                values.setdefault(name, []).append(value)
            file.write(json.dumps({"doc_id": at, "target": "", "filtered_resps": [answer], **found}) + "\\n")
    results[job["task"]] = {f"{name},none": called(function)(values[name]) if name in values else [] for name, function in metrics.items()}
    counts[job["task"]] = {"original": job["size"], "effective": job["size"]}
if "blink_counting" in results:     # lmms-eval's group: the mean of its subtasks, not weighted by size
    subtasks = [values["blink_acc,none"] for name, values in results.items() if name.startswith("blink_")]
    results["blink"] = {"blink_acc,none": sum(subtasks) / len(subtasks)}
Path("20260101_000000_results.json").write_text(json.dumps({"results": results, "n-samples": counts}))
"""  # noqa: E501 -- lines of a program in a string


def run(script: str, jobs: list[dict[str, object]], folder: Path) -> None:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "LMMS_", "LMU", "VLMEVAL"))
    }
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(jobs)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**kept, "HF_HOME": str(folder), "LMUData": str(folder), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]


def kinds_of(source: Source) -> list[str]:
    return sorted({kind for part in source.parts for kind in part.types})


def numeric(kinds: list[str]) -> list[str]:
    return [
        kind
        for kind in kinds
        if kind
        in (
            "object_abs_distance",
            "object_counting",
            "object_size_estimation",
            "room_size_estimation",
        )
        or "_prediction_" in kind
    ]


@pytest.fixture(scope="module")
def vlmevalkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale-vlmevalkit")
    jobs = []
    for key, size in SIZES.items():
        source = by_key(key).source(VLMEVALKIT)
        jobs.append(
            {
                "key": key,
                "size": size,
                "task": source.task,
                "cls": facts(key)[VLMEVALKIT]["cls"],
                "dataset": source.data.dataset,
                "kinds": kinds_of(source),
                "numeric": numeric(kinds_of(source)),
                "question_type": source.rows.question_type,
                "options": source.rows.options,
            }
        )
    run(VLMEVALKIT_SCRIPT, jobs, folder)
    return folder


@pytest.fixture(scope="module")
def lmms_eval(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale-lmms-eval")
    jobs = []
    for key, size in SIZES.items():
        main = by_key(key).source(LMMS_EVAL)
        for source in (main, *main.variants.values()):
            for at, task in enumerate(source.tasks if key != NOT_IMPORTABLE else ()):
                kinds = lmms_kinds(key, source)
                jobs.append(
                    {
                        "key": key,
                        "size": size // len(source.tasks) + 7 * at,
                        "task": task,
                        "kinds": kinds,
                        "numeric": numeric(kinds),
                    }
                )
    run(LMMS_SCRIPT, jobs, folder)
    return folder


def lmms_kinds(key: str, source: Source) -> list[str]:
    """The documents' own names of the question types, where the samples have others."""
    if key == "mmsi_video_bench":
        return [
            "(Cross-Video) Memoery Update",
            "(Cross-Video) Multi-View Integration",
            "(Motion Understanding) Camera Motion",
            "(Motion Understanding) Instance Motion",
            "(Motion Understanding) Interactive Motion",
            "Planning",
            "Prediction",
            *(
                f"(Spatial Construction) {name}"
                for name in (
                    "Camera-Instance Spatial Relationship",
                    "Camera-Scene Spatial Relationship",
                    "Instance-Instance Spatial Relationship",
                    "Instance-Scene Spatial Relationship",
                    "Instance/Scene Attribute",
                    "Scene-Scene Spatial Relationship",
                )
            ),
        ]
    return kinds_of(source)


def agrees(bench: Benchmark, source: Source, rows: pd.DataFrame, found: Reading) -> None:
    own = recompute(bench, source, rows)
    assert disagreement(source, own, found) == ""
    assert wrong_scores(rows) == []
    assert all(found.parts[part.name] is not None for part in source.parts) and found.overall
    # one question more that is right, of so many, is noticed
    changed = rows.assign(score=rows["score"].where(rows.index != rows["score"].idxmin(), 1.0))
    assert disagreement(source, recompute(bench, source, changed), found)


@pytest.mark.parametrize("key", SIZES)
def test_vlmevalkit(key: str, vlmevalkit: Path) -> None:
    bench = by_key(key)
    out = find_vlmevalkit_outputs(bench, vlmevalkit)
    rows = read_vlmevalkit_rows(bench, out)
    assert len(rows) == SIZES[key]
    agrees(bench, bench.source(VLMEVALKIT), rows, read_vlmevalkit_scores(bench, out, rows))


@pytest.mark.parametrize(
    "key, task", [*((key, "") for key in SIZES if key != NOT_IMPORTABLE), ("3dsrbench", CIRCULAR)]
)
def test_lmms_eval(key: str, task: str, lmms_eval: Path) -> None:
    bench = by_key(key)
    out = find_lmms_outputs(bench, lmms_eval, task)
    rows = read_lmms_rows(bench, out)
    assert len(rows) >= SIZES[key]
    agrees(bench, source_of(bench, out), rows, read_lmms_scores(bench, out, rows))
