"""Both backends' scores from the same answers: the table in tests/README.md.

    python tests/benchmarks/same_answers.py VLMEVALKIT_OUT LMMS_OUT

Each argument is the output folder of a finished ``--smoke --include-extra`` run on that backend (it
may be one folder for both). Nothing is written there: copies of the runs are scored by the run's
own scoring command over chosen answers, and a markdown table is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from easi_eval.backends import make_backend
from easi_eval.backends.lmms_eval import corrections
from easi_eval.backends.lmms_eval.samples import sample_entries
from easi_eval.benchmarks import LMMS_EVAL, REHEARSED_KEYS, VLMEVALKIT, by_key
from easi_eval.data.local_hub.server import LocalHub
from easi_eval.data.needs import HubSettings
from easi_eval.scores.recompute import recompute

# What models say when they mean B; dealt out in this order.
FORMS = (
    "{0}",
    "{0}.",
    "({0})",
    "The answer is {0}.",
    "**{0}**",
    "{1}",
    "Answer: {0}",
    "<answer>{0}</answer>",
    "I think {0} is right",
    "",
)
NUMBERS = (
    "{0}",
    "{0}.",
    "About {0}",
    "The answer is {0}.",
    "**{0}**",
    "{0} meters",
    "Answer: {0}",
    "<answer>{0}</answer>",
    "three",
    "",
)
Question = tuple[str, str]  # benchmark, and what the question is called in both backends


@dataclass(frozen=True)
class Finished:
    """A finished run: its output folder, its run folder in it, and each benchmark's rows."""

    backend: str
    out: Path
    root: Path

    @classmethod
    def of(cls, backend: str, out: Path) -> Finished:
        (root,) = (out / "runs" / backend).glob("easi-smoke__Tiny-VLM-*")
        return cls(backend, out, root)

    def rows(self, key: str, folder: Path | None = None) -> pd.DataFrame:
        """With the column ``question``: its name in both backends."""
        made = make_backend(self.backend, HubSettings("http://127.0.0.1:1", self.out))
        rows = made.rows(
            by_key(key), made.outputs(by_key(key), folder or self.root / "outputs" / key, "")
        )
        # Both layouts number the rehearsal's questions in one order; 3DSRBench's have ids, because
        # only VLMEvalKit has variants of them.
        order = rows["item"].map(
            lambda item: (str(item).rpartition(":")[0], int(str(item).rpartition(":")[2]))
        )
        places = {
            item: str(place)
            for place, item in enumerate(rows["item"].loc[order.sort_values().index])
        }
        # lmms-eval's subtasks, by name, are VLMEvalKit's categories in their order
        if key == "blink":
            places = {
                item: str(place)
                for place, item in enumerate(
                    sorted(
                        rows["item"],
                        key=lambda item: (item.rpartition(":")[0], int(item.rpartition(":")[2])),
                    )
                )
            }
        names = (
            rows["variant"]
            if key == "3dsrbench" and rows["variant"].all()
            else rows["item"].map(places)
        )
        return rows.assign(question=names)

    def score(
        self, answers: Mapping[Question, str]
    ) -> dict[str, tuple[float | None, pd.DataFrame]]:
        """Headline and rows of each benchmark for these answers.

        A question that is not among them keeps its own answer.
        """
        texts = {
            (key, row.item): answers.get((key, row.question), row.answer)
            for key in REHEARSED_KEYS
            for row in self.rows(key).itertuples()
        }
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(shutil.copytree(self.out, Path(scratch) / "out", symlinks=True))
            root = out / self.root.relative_to(self.out)
            shutil.rmtree(root / "outputs")
            (root / "outputs").mkdir()
            (root / "answering.done").touch()
            for path in (root / "journal").glob("*.jsonl"):
                lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
                changed = [
                    line | {"text": texts[line["benchmark"], line["item"]]}
                    if line["kind"] == "answer"
                    else line
                    for line in lines
                ]
                path.write_text(
                    "".join(json.dumps(line) + "\n" for line in changed), encoding="utf-8"
                )
            self._run(out, root)
            return {
                key: self._headline(key, root / "outputs" / f".{key}.scored")
                for key in REHEARSED_KEYS
            }

    def _run(self, out: Path, root: Path) -> None:
        commands = json.loads((root / "run_manifest.json").read_text(encoding="utf-8"))["commands"]
        words = shlex.split(next(command for command in commands if "--easi-role score" in command))
        (served,) = (out / "rehearsal").glob("hub-*")
        with LocalHub(served) as running:
            words = [
                re.sub("^HF_ENDPOINT=.*", f"HF_ENDPOINT={running.endpoint}", word).replace(
                    str(self.out), str(out)
                )
                for word in words
            ]
            done = subprocess.run(
                words[words.index("env") :],
                cwd=out,
                env={**os.environ, "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"},
                capture_output=True,
                text=True,
            )
        if done.returncode:
            sys.exit(done.stdout[-3000:] + done.stderr[-3000:])

    def _headline(self, key: str, folder: Path) -> tuple[float | None, pd.DataFrame]:
        bench, rows = by_key(key), self.rows(key, folder)
        made = make_backend(self.backend, HubSettings("http://127.0.0.1:1", self.out))
        out = made.outputs(bench, folder, "")
        for correction in corrections.applying(self.backend, key):
            changed = corrections.corrected_rows(correction, sample_entries(bench, out, rows), rows)
            if changed is not None:
                return recompute(bench, bench.source(self.backend), changed).overall, changed
        return made.read(bench, out, rows).overall, rows


def from_run(run: Finished) -> dict[Question, str]:
    """What the model of a run answered."""
    return {
        (key, row.question): row.answer
        for key in REHEARSED_KEYS
        for row in run.rows(key).itertuples()
    }


def in_forms(run: Finished) -> dict[Question, str]:
    """The right answer to two questions of three, else another, each time in another form."""
    made: dict[Question, str] = {}
    for key in REHEARSED_KEYS:
        for place, row in enumerate(run.rows(key).itertuples()):
            target = re.sub(r"^<Answer>|</Answer>$", "", str(row.target)).strip("()")
            letter = re.match(r"[A-J]\b", target)
            said = (letter[0] if letter else target) if place % 3 else ("A" if letter else "7")
            made[key, row.question] = (FORMS if letter else NUMBERS)[place % 10].format(
                said, said.lower()
            )
    return made


def shape(answer: str) -> str:
    """The answer with every letter and number made one, so that equal forms look alike."""
    return re.sub(
        r"\d+(\.\d+)?",
        "3",
        re.sub(r"\b[A-Ja-j]\b", lambda found: "B" if found[0].isupper() else "b", answer),
    )


def table(
    title: str,
    left: Mapping[str, tuple[float | None, pd.DataFrame]],
    right: Mapping[str, tuple[float | None, pd.DataFrame]],
) -> str:
    lines = [
        f"| {title} | VLMEvalKit | lmms-eval | questions in both | scored differently | forms of "
        "these, and what each backend gives |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for key in REHEARSED_KEYS:
        (one, rows), (other, others) = left[key], right[key]
        both = rows.set_index("question")[["score", "answer"]].join(
            others.set_index("question")["score"].rename("other"), how="inner"
        )
        differing = both[(both["score"] - both["other"]).abs() > 1e-9]
        forms = {
            f"`{shape(row.answer)}` {row.score:g}:{row.other:g}" for row in differing.itertuples()
        }
        shown = ["-" if value is None else f"{value:.2f}" for value in (one, other)]
        lines.append(
            f"| {by_key(key).title} | {shown[0]} | {shown[1]} | {len(both)} | {len(differing)} | "
            f"{', '.join(sorted(forms))} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vlmevalkit", type=Path)
    parser.add_argument("lmms_eval", type=Path)
    given = parser.parse_args()
    left, right = (
        Finished.of(VLMEVALKIT, given.vlmevalkit.absolute()),
        Finished.of(LMMS_EVAL, given.lmms_eval.absolute()),
    )
    sets: tuple[tuple[str, Callable[[Finished], dict[Question, str]]], ...] = (
        ("a run's answers", from_run),
        ("answers in many forms", in_forms),
    )
    for title, make in sets:
        answers = make(right)
        print(table(title, left.score(answers), right.score(answers)) + "\n", flush=True)


if __name__ == "__main__":
    main()
