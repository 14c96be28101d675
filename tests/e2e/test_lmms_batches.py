"""``-- --batch_size 4`` on lmms-eval: an answer depends on the batch only as in lmms-eval itself.

Padding changes the last digits of the logits. The rehearsal's model is sure of its answers, so they
stay the same. A model with random weights in bfloat16 is not, and shows whether our answers are
those of lmms-eval's class for the same batches.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

from conftest import Runs, Whole
from easi_eval.benchmarks import LMMS_EVAL
from lmms_stock import launched
from own_files import KEYS
from program import Results, RunFolder, run_folder
from rehearsal_data import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

BATCH, LIMIT = 4, 24
FEW = ("mmsi_bench", "viewspatial", "embspatial")
# lmms-eval's own program; its model class is asked in the batches that are listed, then in its own,
# then one by one.
PROGRAM = """
import json, os
from lmms_eval import __main__ as main, models

get_model = models.get_model

def asked_thrice(name, force_simple=False):
    cls = get_model(name, force_simple)

    def generate_until(self, requests):
        by_id = {f"{request.task_name}:{request.doc_id}": request for request in requests}

        def texts(batches):
            return {item: made.text for batch in batches for item, made in zip(batch, cls.generate_until(self, [by_id[item] for item in batch]))}

        with open("batches.json") as file:
            found = {"listed": texts(json.load(file)), "own": texts([list(by_id)]), "alone": texts([[item] for item in by_id])}
        with open("texts.json", "w") as file:
            json.dump(found, file)
        os._exit(0)

    return type(cls.__name__, (cls,), {"generate_until": generate_until, "__module__": cls.__module__})

models.get_model = asked_thrice
main.cli_evaluate()
"""  # noqa: E501 -- lines of a program in a string


@pytest.fixture(scope="module")
def whole(runs: Runs) -> Whole:
    return runs.alone(LMMS_EVAL)


@pytest.fixture(scope="module")
def sure(runs: Runs, whole: Whole) -> tuple[RunFolder, Results]:
    """All of it in batches, by two workers."""
    out = runs.fresh("batches-lmms-eval")
    launch = runs.user.run(
        "--smoke",
        "--backend",
        LMMS_EVAL,
        "--include-extra",
        "--nproc",
        2,
        "--output-dir",
        out,
        "--no-rich",
        "--",
        "--batch_size",
        BATCH,
    )
    assert launch.code == 0, launch.said
    return run_folder(out, LMMS_EVAL), Results(out)


@pytest.mark.parametrize("key", KEYS)
def test_a_model_that_is_sure_answers_alike_in_batches(
    whole: Whole, sure: tuple[RunFolder, Results], key: str
) -> None:
    folder, results = sure
    assert folder.texts(key) == whole.folder.texts(key)
    assert results.score(key) == whole.results.score(key)


def test_the_rehearsals_questions_were_asked_four_at_a_time(
    sure: tuple[RunFolder, Results],
) -> None:
    folder, _ = sure
    sizes = [len(batch) for batch in batches(folder)]
    assert max(sizes) == BATCH and sizes.count(BATCH) > len(sizes) / 2


def batches(folder: RunFolder) -> list[list[str]]:
    """Which questions met, by the journal; none was handed from one worker to another."""
    found = []
    for lease in folder.records("lease"):
        items = [item for _, item in lease["keys"]]
        found += [items[at : at + lease["step"]] for at in range(0, len(items), lease["step"])]
    assert sorted(item for batch in found for item in batch) == sorted(
        answer["item"] for answer in folder.answers
    )
    return found


@dataclass(frozen=True)
class Unsure:
    """What a model with random weights said.

    Once in our run, and by lmms-eval's class alone: in our batches, in its own, and one by one.
    """

    ours: Mapping[str, str]
    listed: Mapping[str, str]
    own: Mapping[str, str]
    alone: Mapping[str, str]
    finished: list[tuple[int, str | None]]  # tokens and how it ended, of each of our answers


@pytest.fixture(scope="module")
def unsure(runs: Runs, whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> Unsure:
    folder = tmp_path_factory.mktemp("unsure")
    out = runs.fresh("unsure-lmms-eval")
    launch = runs.user.run(
        "--smoke",
        "--backend",
        LMMS_EVAL,
        "--model",
        "qwen2_5_vl",
        "--device",
        "cpu",
        "--benchmarks",
        ",".join(FEW),
        "--output-dir",
        out,
        "--no-rich",
        "--model-args",
        f"pretrained={random_weights(folder / 'Random-VLM')},"
        "device_map=cpu,min_pixels=784,max_pixels=3136",
        "--",
        "--batch_size",
        BATCH,
        "--gen_kwargs",
        f"max_new_tokens={LIMIT}",
    )
    assert launch.code == 0, launch.said
    ours = run_folder(out, LMMS_EVAL, "Random-VLM")
    (folder / "asked.py").write_text(PROGRAM, encoding="utf-8")
    (folder / "batches.json").write_text(json.dumps(batches(ours)), encoding="utf-8")
    (served,) = (out / "rehearsal").glob("hub-*")
    done = launched(runs.user, ours, served, folder, [str(folder / "asked.py")])
    assert (folder / "texts.json").is_file(), done.stdout[-3000:] + done.stderr[-3000:]
    said = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    return Unsure(
        {item: text for key in FEW for item, text in ours.texts(key).items()},
        **said,
        finished=[(answer["tokens"], answer["finish"]) for answer in ours.answers],
    )


def random_weights(folder: Path) -> Path:
    checkpoint.build(folder)
    torch.manual_seed(0)
    Qwen2_5_VLForConditionalGeneration(AutoConfig.from_pretrained(folder)).to(
        torch.bfloat16
    ).save_pretrained(folder)
    return folder


def test_a_batch_of_ours_says_what_lmms_evals_class_says_to_the_same_batch(unsure: Unsure) -> None:
    assert len(unsure.ours) == 60
    assert unsure.listed == unsure.ours


def test_other_company_is_what_changes_an_answer(unsure: Unsure) -> None:
    """lmms-eval's own batches differ from its own single answers as ours do.

    Its batches take the questions in the order of their texts.
    """
    assert unsure.own.keys() == unsure.alone.keys() == unsure.ours.keys()
    for batched in (unsure.own, unsure.ours):
        changed = {item for item in batched if batched[item] != unsure.alone[item]}
        assert 0 < len(changed) < len(batched) / 2, changed


def test_an_answer_is_not_said_to_be_cut_off_because_another_one_was_long(unsure: Unsure) -> None:
    """lmms-eval's classes count the tokens of a padded batch."""
    at_the_limit = [finish for tokens, finish in unsure.finished if tokens >= LIMIT]
    assert len(at_the_limit) > len(unsure.finished) / 2
    assert at_the_limit.count("length") < BATCH, "at most what was asked alone at a benchmark's end"
