"""Make the result files of one benchmark in ``tests/data`` from those of a rehearsal run.

    python tests/data/refresh.py KEY FOLDER_WITH_VLMEVALKIT_FILES FOLDER_WITH_LMMS_EVAL_FILES

The files are made small and free of local paths. Values, names and layout stay what the backends
wrote. Left out of lmms-eval's files: the prompts, everything of results.json but ``results`` and
``n-samples``, and the metrics that only repeat a sample's object.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import openpyxl

from easi_eval.backends.lmms_eval.result_files import find_lmms_outputs
from easi_eval.backends.vlmevalkit.result_files import find_vlmevalkit_outputs
from easi_eval.benchmarks import LMMS_EVAL, VLMEVALKIT, Benchmark, Source, by_key

HERE = Path(__file__).parent
PATHS = re.compile(r"/[^'\"\s]*?/hub/datasets--")
STAMP = "20260102_030405"


def vlmevalkit(bench: Benchmark, source: Path, target: Path) -> None:
    out, task = find_vlmevalkit_outputs(bench, source), bench.source(VLMEVALKIT).task

    def place(path: Path) -> Path:
        return target / f"M_{path.name[path.name.index(task) :]}"  # of the model M

    for path in out.scores:
        shutil.copyfile(path, place(path))
        # the trap: newer than the file it must not be taken for
        for subset in path.parent.glob(f"*_{task}_*_subset_acc.csv"):
            shutil.copyfile(subset, place(subset))
    # the lossless answers of a run of ours stay behind: these stand for anybody's
    for path in out.rows[:1]:
        book = openpyxl.load_workbook(path)
        for row in book.worksheets[0].iter_rows():
            for cell in row:
                if isinstance(cell.value, str):
                    cell.value = PATHS.sub("/home/user/hf/hub/datasets--", cell.value)
        book.save(place(path))


def lmms_eval(bench: Benchmark, source: Path, target: Path) -> None:
    results: dict[str, object] = {}
    counts: dict[str, object] = {}
    main = bench.source(LMMS_EVAL)
    for one in (main, *main.variants.values()):
        out = find_lmms_outputs(bench, source, one.task)
        whole = json.loads(out.scores[0].read_text(encoding="utf-8"))
        for task in dict.fromkeys((one.task, *one.tasks)):
            results[task] = whole["results"][task]
            counts |= {task: whole["n-samples"][task]} if task in whole["n-samples"] else {}
        for path in out.rows:
            name = f"{STAMP}_samples_{path.stem.rpartition('_samples_')[2]}.jsonl"
            (target / name).write_text(samples(one, path), encoding="utf-8")
    text = json.dumps({"results": results, "n-samples": counts}, indent=1, ensure_ascii=False)
    (target / f"{STAMP}_results.json").write_text(text, encoding="utf-8")


def samples(source: Source, path: Path) -> str:
    """The lines of a samples file without what the readers do not need."""
    counted = source.rows.question_type == "@counted"
    kept = {
        "doc_id",
        "target",
        "filtered_resps",
        "resps",
        "token_counts",
        "doc_hash",
        "input_media",
        source.rows.entry,
        source.rows.chance,
        *(kind for part in source.parts for kind in part.types if counted),
    }
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        sample = {name: value for name, value in json.loads(line).items() if name in kept}
        for entry in sample.values():
            if isinstance(entry, dict):
                entry.pop("query", None)
        lines.append(json.dumps(sample, ensure_ascii=False) + "\n")
    return "".join(lines)


def main() -> None:
    key, *sources = sys.argv[1:]
    for name, build, source in zip(
        (VLMEVALKIT, LMMS_EVAL), (vlmevalkit, lmms_eval), sources, strict=True
    ):
        target = HERE / key / name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        build(by_key(key), Path(source), target)


if __name__ == "__main__":
    main()
