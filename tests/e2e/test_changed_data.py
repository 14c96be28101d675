"""A benchmark's data change on the hub between two launches.

Changed right answers are scored again; changed questions are asked again.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import Runs
from easi_eval.benchmarks import VLMEVALKIT
from easi_eval.data.local_hub.server import LocalHub
from own_entries import OWN_ENTRIES
from program import Launch, Results, RunFolder, User, run_folder

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

PIXELS = "min_pixels=784,max_pixels=3136"  # as the rehearsal runs the same weights
NEXT = {"A": "B", "B": "A", "(A)": "(B)", "(B)": "(A)"}
KEY_CHANGED = (
    "BLINK: its right answers changed since it was started; no question is asked again, all are "
    "scored again"
)


@dataclass
class Place:
    """A hub of our own with BLINK's tiny data, and one run of it."""

    backend: str
    served: Path
    out: Path
    user: User
    model: Path

    def run(self, endpoint: str, *more: object) -> tuple[Launch, Results, RunFolder]:
        lmms = ("qwen2_5_vl", "--model-args", f"pretrained={self.model},device_map=cpu,{PIXELS}")
        choice = (self.model, "--model-args", PIXELS) if self.backend == VLMEVALKIT else lmms
        launch = self.user.run(
            "--backend",
            self.backend,
            "--model",
            *choice,
            "--device",
            "cpu",
            "--benchmarks",
            "blink",
            "--no-rich",
            "--judge",
            "exact_matching",
            "--dataset-dir",
            self.user.root / "data",
            "--output-dir",
            self.out,
            *more,
            HF_ENDPOINT=endpoint,
            NO_PROXY="127.0.0.1",
            HF_HUB_DISABLE_XET="1",
        )
        assert launch.code == 0, launch.said
        return launch, Results(self.out), run_folder(self.out, self.backend, self.model.name)

    @property
    def table(self) -> Path:
        return self.served / "datasets/lmms-lab-si/EASI-Leaderboard-Data/BLINK.tsv"

    def change(self, column: str, change: dict[str, str]) -> int:
        """Rewrite a column; returns in how many rows it changed."""
        if self.backend == VLMEVALKIT:
            table = pd.read_csv(self.table, sep="\t", dtype=str, keep_default_na=False)
            before, table[column] = (
                table[column],
                [change.get(value, value) for value in table[column]],
            )
            table.to_csv(self.table, sep="\t", index=False)
            return int((before != table[column]).sum())
        changed = 0
        for path in sorted((self.served / "datasets/BLINK-Benchmark/BLINK").rglob("*.parquet")):
            rows = pq.read_table(path)  # its schema says which column holds pictures
            values = rows[column].to_pylist()
            new = [change.get(value, value) for value in values]
            pq.write_table(
                rows.set_column(
                    rows.schema.get_field_index(column),
                    rows.schema.field(column),
                    pa.array(new, rows.schema.field(column).type),
                ),
                path,
            )
            changed += sum(one != other for one, other in zip(values, new, strict=True))
        return changed


def data(folder: RunFolder) -> dict[str, str]:
    return folder.manifest["benchmarks"]["blink"]["settings"]["data"]


@pytest.fixture
def place(backend: str, runs: Runs, tmp_path: Path) -> Place:
    served = Path(shutil.copytree(runs.served, tmp_path / "served"))
    model = Path(
        shutil.copytree(served / "models" / "easi-smoke" / "Tiny-VLM", tmp_path / "Some-VLM")
    )
    return Place(
        backend, served, tmp_path / "out", User(tmp_path / "user", program=OWN_ENTRIES), model
    )


def test_a_new_key_asks_nothing_again_and_new_questions_do(place: Place) -> None:
    with LocalHub(place.served) as running:
        launch, _, folder = place.run(running.endpoint, "--limit", 1)
        begun = data(folder)
        assert 0 < len(folder.answers) < 28 and KEY_CHANGED not in launch.out

        assert place.change("answer", NEXT) > 5
        launch, results, folder = place.run(running.endpoint)
        assert KEY_CHANGED in launch.out and results.line("blink")["state"] == "complete"
        assert len(folder.answers) == 28 == len(folder.texts("blink")), "each was asked once"
        assert (
            data(folder)["questions"] == begun["questions"]
            and data(folder)["truth"] != begun["truth"]
        )
        # what is complete is only looked at again where a table of the user's own changed
        if place.backend != VLMEVALKIT:
            return

        score, local = results.score("blink"), place.user.root / "data" / place.table.name
        place.change("answer", NEXT)
        shutil.copyfile(place.table, local)
        launch, results, folder = place.run(running.endpoint)
        assert KEY_CHANGED in launch.out and "importing" not in launch.out, (
            "nothing is left to answer"
        )
        assert results.score("blink") != score and data(folder) == begun

        place.change(
            "question",
            {
                question: f"{question} "
                for question in pd.read_csv(place.table, sep="\t", dtype=str)["question"]
            },
        )
        shutil.copyfile(place.table, local)
        launch, _, folder = place.run(running.endpoint)
        assert (
            "BLINK: its data or the model changed on the hub since it was started; it starts over"
            in launch.out
        )
        assert len(folder.answers) == 2 * 28 and data(folder)["truth"] == begun["truth"]
