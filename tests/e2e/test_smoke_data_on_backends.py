"""The rehearsal's data in the unmodified backends.

Every row becomes a prompt, and a constant answer gets the score it must get.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from easi_eval.benchmarks import LMMS_EVAL, REHEARSED_KEYS, VLMEVALKIT, by_key
from hub_faults import FaultyHub
from rehearsal_data import repositories
from rehearsal_data.questions import Question

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

TSV_REPO = "lmms-lab-si/EASI-Leaderboard-Data"

# Builds every document's prompt, as a model would ask for it, and says how many pictures each
# task's prompts hold.
LMMS_PROMPTS = """
import json, sys
from lmms_eval.tasks import TaskManager, get_task_dict
def tasks(found):
    for name, task in found.items():
        if isinstance(task, dict):
            yield from tasks(task)
        else:
            yield str(name), task
counts = {}
for name, task in tasks(get_task_dict(sys.argv[1].split(","), TaskManager("INFO"))):
    docs = list(task.test_docs())
    for doc in docs:
        assert task.doc_to_text(doc).strip() and task.doc_to_target(doc) is not None
    counts[name] = [len(docs), sum(len(task.doc_to_visual(doc)) for doc in docs)]
print("COUNTS " + json.dumps(counts))
"""

# Builds every row's prompt and scores the answer "A" to all of them with the datasets' own classes.
VLMEVALKIT_PROMPTS = """
import json, sys
from pathlib import Path
import vlmeval.dataset as datasets
for cls in datasets.DATASET_CLASSES:
    if isinstance(getattr(cls, "DATASET_MD5", None), dict):
        cls.DATASET_MD5 = dict.fromkeys(cls.DATASET_MD5)   # the sums of the real files
counts = {}
for name in sys.argv[1].split(","):
    dataset = datasets.build_dataset(name)
    pictures = 0
    for _, line in dataset.data.iterrows():
        message = dataset.build_prompt(line, video_llm=False) if dataset.MODALITY == "VIDEO" else dataset.build_prompt(line)
        shown = [part["value"] for part in message if part["type"] == "image"]
        assert shown and all(Path(path).stat().st_size for path in shown), line
        pictures += len(shown)
    table = dataset.data.assign(prediction="A").drop(columns="image", errors="ignore")
    file = f"M_{name}.xlsx"
    table.to_excel(file, index=False)
    scores = dataset.evaluate(file, model="exact_matching", nproc=1)
    row = scores if isinstance(scores, dict) else scores.iloc[0].to_dict()
    counts[name] = [len(dataset.data), pictures, float(next(row[key] for key in ("overall_caa", "overall", "Overall") if key in row))]
print("COUNTS " + json.dumps(counts))
"""  # noqa: E501 -- lines of a program in a string


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    root = tmp_path_factory.mktemp("smoke")
    repositories.build(root)
    with FaultyHub(root) as running:
        yield running


def run(argv: Iterable[str], served: FaultyHub, folder: Path, **env: str) -> str:
    """Run Python in ``folder`` against the hub, with caches of its own; what it prints."""
    (folder / "home").mkdir(exist_ok=True)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "LMMS_", "LMU", "VLMEVAL"))
    }
    kept |= {
        "HF_ENDPOINT": served.endpoint,
        "HF_HOME": str(folder / "home"),
        "HF_TOKEN": "placeholder",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
        **env,
    }
    done = subprocess.run(
        [sys.executable, *argv], cwd=folder, env=kept, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def printed_counts(out: str) -> dict[str, list[float]]:
    return json.loads(
        next(line for line in out.splitlines() if line.startswith("COUNTS "))[len("COUNTS ") :]
    )


def share_of_a(asked: Iterable[Question]) -> float:
    """What a model that always answers A scores, 0-100."""
    hits = [question.answer == "A" for question in asked]
    return float(100 * Fraction(sum(hits), len(hits)))


def caa_of_a(asked: Iterable[Question]) -> float:
    """The same for SITE: corrected for chance."""
    chances = [(question.answer == "A", Fraction(1, len(question.options))) for question in asked]
    return float(
        100
        * sum(hit - chance for hit, chance in chances)
        / sum(1 - chance for _, chance in chances)
    )


REHEARSED = [by_key(key) for key in REHEARSED_KEYS]
# Not those with open questions, nor those whose variants are counted with their questions.
EXPECTED = {
    bench.key: (caa_of_a if bench.group else share_of_a)(repositories.ASKED[bench.key](0))
    for bench in REHEARSED
    if bench.source(VLMEVALKIT).recompute in ("mean", "caa")
    and not bench.source(VLMEVALKIT).rows.variant
}


def test_lmms_eval_runs_every_task(served: FaultyHub, tmp_path: Path) -> None:
    sources = {benchmark.key: benchmark.sources[LMMS_EVAL] for benchmark in REHEARSED}
    names = ",".join(
        task for source in sources.values() for task in (source.task, *source.variants)
    )
    options = [
        "--model",
        "dummy",
        "--model_args",
        "response=A",
        "--tasks",
        names,
        "--batch_size",
        "1",
        "--log_samples",
        "--output_path",
        str(tmp_path / "out"),
    ]
    run(["-m", "lmms_eval", *options], served, tmp_path)
    results = json.loads(next((tmp_path / "out").rglob("*_results.json")).read_text())
    for key, source in sources.items():
        score = results["results"][source.task][f"{source.overall},none"] * source.scale
        assert score == pytest.approx(EXPECTED.get(key, score), abs=0.01)
        assert score != 0 and score < 100  # SITE is corrected for chance and may be negative
    prompts = printed_counts(run(["-c", LMMS_PROMPTS, names], served, tmp_path))
    assert {name: counts[0] for name, counts in prompts.items()} == {
        name: counts["effective"] for name, counts in results["n-samples"].items()
    }
    assert all(pictures >= rows > 0 for rows, pictures in prompts.values())


def test_vlmevalkit_builds_and_scores_every_dataset(served: FaultyHub, tmp_path: Path) -> None:
    sources = {benchmark.key: benchmark.sources[VLMEVALKIT] for benchmark in REHEARSED}
    tables = tmp_path / "tables"
    tables.mkdir()
    for path in (served.root / "datasets" / TSV_REPO).glob("*.tsv"):
        shutil.copy(path, tables)
    names = ",".join(source.task for source in sources.values())
    out = run(
        ["-c", VLMEVALKIT_PROMPTS, names],
        served,
        tmp_path,
        LMUData=str(tables),
        VLMEVALKIT_USE_MODELSCOPE="0",
    )
    counts = printed_counts(out)
    for key, source in sources.items():
        rows, pictures, overall = counts[source.task]
        assert pictures >= rows > 0
        assert overall * source.scale == pytest.approx(
            EXPECTED.get(key, overall * source.scale), abs=0.01
        )
        assert overall != 0 and overall * source.scale < 100
    assert not [
        request.path
        for request in served.served()
        if request.path.endswith("videos.zip") and request.sent
    ]
