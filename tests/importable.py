"""Finished folders of both backends that were made without this program.

They are made from the genuine small files in ``data/``.
"""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from easi_eval.backends.lmms_eval.result_files import find_lmms_outputs
from easi_eval.backends.vlmevalkit.dataset_check import ASKED, row_cells
from easi_eval.benchmarks import ALL_KEYS, LMMS_EVAL, VLMEVALKIT, by_key
from genuine import STAMP, files_of, genuine

SECRET = "sk-" + "ForeignSecretKey" * 3
MODEL_ARGS = "pretrained=org/Tiny-VLM,max_pixels=3136"


def vlmevalkit_files(folder: Path, keys: Iterable[str] = ALL_KEYS, model: str = "M") -> Path:
    """The files that VLMEvalKit leaves of these benchmarks, in one folder.

    Among them are a status.json with a secret, and pickles that run a command when loaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for key in keys:
        bench = by_key(key)
        for path in genuine(VLMEVALKIT, bench).files:
            shutil.copyfile(path, folder / path.name.replace("M_", f"{model}_", 1))
        (folder / f"{model}_{bench.source(VLMEVALKIT).task}_result.pkl").write_bytes(
            b"cposix\nsystem\n(S'touch /exploded'\ntR."
        )
    status = {"argv": ["run.py", "--judge-key", SECRET], "datasets": {}, "model_name": model}
    (folder / "status.json").write_text(json.dumps(status), encoding="utf-8")
    return folder


def tables(folder: Path, keys: Iterable[str] = ALL_KEYS) -> Path:
    """The datasets' tables of those files, as far as an import reads them.

    They have questions, options and right answers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for key in keys:
        bench = by_key(key)
        data = bench.source(VLMEVALKIT).data
        rows = row_cells(bench, genuine(VLMEVALKIT, bench))
        columns = [
            name for name in next(iter(rows.values())) if name == "answer" or ASKED.fullmatch(name)
        ]
        with (folder / (data.tsv_local or data.tsv)).open(
            "w", encoding="utf-8", newline=""
        ) as file:
            writer = csv.writer(file, delimiter="\t")
            writer.writerows(
                [
                    ["index", *columns],
                    *([item, *(row[name] for name in columns)] for item, row in rows.items()),
                ]
            )
    return folder


def lmms_files(
    folder: Path,
    keys: Iterable[str] = ALL_KEYS,
    stamp: str = STAMP,
    limit: int | None = None,
    model_args: str = MODEL_ARGS,
) -> Path:
    """What one launch of lmms-eval leaves of these benchmarks."""
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    for key in keys:
        source = by_key(key).source(LMMS_EVAL)
        tasks = {source.task, *source.tasks}
        out = find_lmms_outputs(by_key(key), files_of(key, LMMS_EVAL), source.task)
        for path in out.rows:
            shutil.copyfile(path, folder / path.name.replace(STAMP, stamp))
        whole = json.loads(out.scores[0].read_text(encoding="utf-8"))
        results |= {task: value for task, value in whole["results"].items() if task in tasks}
        counts |= {task: value for task, value in whole["n-samples"].items() if task in tasks}
    content = {
        "results": results,
        "n-samples": counts,
        "config": {"model": "qwen2_5_vl", "model_args": model_args, "limit": limit},
        "model_source": "qwen2_5_vl",
        "model_name": "org/Tiny-VLM",
        "lmms_eval_version": "main@5753e51b",
    }
    (folder / f"{stamp}_results.json").write_text(
        json.dumps(content, ensure_ascii=False), encoding="utf-8"
    )
    return folder


def hub_cache(
    home: Path, files: Path, keys: Iterable[str] = ALL_KEYS, name: str = "1" * 40
) -> Path:
    """The hub's cache with the datasets of these files, as far as an import reads them.

    The files get their prompts, which those in ``data/`` lack.
    """
    for key in keys:
        source = by_key(key).source(LMMS_EVAL)
        folder = home / "hub" / f"datasets--{source.data.repo.replace('/', '--')}"
        card = folder / "snapshots" / name / "README.md"
        configs = []
        for config, task in zip(source.data.configs or ("default",), source.tasks, strict=True):
            path = files / f"{STAMP}_samples_{task}.jsonl"
            samples = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            rows = [
                {
                    **{
                        name: sample[source.rows.entry].get(name, f"{name} of {sample['doc_id']}")
                        for name in source.data.asked
                    },
                    **{
                        name: int(sample["target"])
                        if source.data.columns.get(name, "").startswith("int")
                        else sample["target"]
                        for name in source.data.truth
                    },
                }
                for sample in samples
            ]
            for sample, row in zip(samples, rows, strict=True):
                texts = [
                    [value] if isinstance(value, str) else value or []
                    for value in (row[name] for name in source.data.asked)
                ]
                sample["input"] = "\n".join(["<image>", *itertools.chain(*texts)])
            path.write_text(
                "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples),
                encoding="utf-8",
            )
            table = card.parent / config / f"{source.data.split}-00000-of-00001.parquet"
            table.parent.mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(rows), table)
            configs.append(
                {
                    "config_name": config,
                    "data_files": [
                        {"split": source.data.split, "path": f"{config}/{source.data.split}-*"}
                    ],
                }
            )
        # Two benchmarks may be configs of one repository.
        before = (
            json.loads(card.read_text(encoding="utf-8").split("---")[1])["configs"]
            if card.exists()
            else []
        )
        card.write_text(
            f"---\n{json.dumps({'configs': before + configs})}\n---\n", encoding="utf-8"
        )
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(name)
    return home
