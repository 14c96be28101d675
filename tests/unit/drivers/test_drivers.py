"""The drivers' own steps around a model, with plain objects for models and datasets.

No backend is imported.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from easi_eval.engine.generation import Generation
from easi_eval.engine.vlm.loading import spilled
from easi_eval.engine.work import Assignment, Work
from easi_vlmevalkit.datasets import Datasets, LoadedDataset
from easi_vlmevalkit.prompts import build_prompt, generate, match_frames


def placed(**places: object) -> SimpleNamespace:
    return SimpleNamespace(hf_device_map=places)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (placed(a=0, b=1), []),
        (placed(a=0, b="cpu"), ["cpu"]),
        (placed(a=torch.device("cuda:0"), b=torch.device("cpu")), ["cpu"]),
        (SimpleNamespace(model=placed(a=0, b="disk", c="cpu")), ["cpu", "disk"]),
        (
            SimpleNamespace(_model=placed(a=0), vlm=SimpleNamespace(model=placed(a="disk"))),
            ["disk"],
        ),
        (SimpleNamespace(model=SimpleNamespace(hf_device_map=None)), []),
        (object(), []),
    ],
)
def test_weights_outside_the_accelerators_are_found(model: object, expected: list[str]) -> None:
    assert spilled(model) == expected


def dataset(prompt: object) -> SimpleNamespace:
    source = SimpleNamespace(
        dataset_name="BLINK",
        MODALITY="IMAGE",
        data=SimpleNamespace(iloc=[{"index": "q"}]),
        build_prompt=lambda line: prompt,
    )
    return SimpleNamespace(source=source, rows={"7": 0})


def model(generate: Callable[[], object]) -> SimpleNamespace:
    return SimpleNamespace(generate=lambda message, dataset: generate())


def ask(model: SimpleNamespace, dataset: SimpleNamespace) -> Generation:
    return generate(model, dataset, "7", build_prompt(model, dataset, "7"))


PROMPT = [{"type": "image", "value": "a.png"}, {"type": "text", "value": "Which?"}]


@pytest.mark.parametrize(
    ("prompt", "answer", "reason"),
    [
        (None, "A", "BLINK built no prompt for 7"),
        (PROMPT, None, "the model gave no answer to 7"),
    ],
)
def test_nothing_is_no_prompt_and_no_answer(prompt: object, answer: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ask(model(lambda: answer), dataset(prompt))


@pytest.mark.parametrize(("answer", "text"), [("A", "A"), ("", ""), ("None", "None"), (3, "3")])
def test_an_answer_is_kept_as_text(answer: object, text: str) -> None:
    assert ask(model(lambda: answer), dataset(PROMPT)).text == text


# ---- prompts as in vlmeval/inference.py and vlmeval/inference_video.py ---------------------------


def video(nframe: int = 32, fps: float = -1, **line: str) -> SimpleNamespace:
    source = SimpleNamespace(
        dataset_name="VSI-Bench_32frame",
        MODALITY="VIDEO",
        nframe=nframe,
        fps=fps,
        data=SimpleNamespace(iloc=[{"index": "q", **line}]),
        build_prompt=lambda row, video_llm: [
            {"type": "text", "value": f"row {row}, video {video_llm}"}
        ],
    )
    return SimpleNamespace(source=source, rows={"7": 0})


def own_prompts(asked: list[str], **attributes: object) -> SimpleNamespace:
    """A model that makes its own prompts, and notes for which dataset it was asked."""

    def use_custom_prompt(name: str) -> bool:
        asked.append(name)
        return True

    return SimpleNamespace(
        use_custom_prompt=use_custom_prompt,
        build_prompt=lambda line, dataset, **options: [("own", dataset, options)],
        **attributes,
    )


def test_a_models_own_prompt_gives_way_to_a_dataset_that_insists() -> None:
    asked: list[str] = []
    insisting = dataset(PROMPT)
    assert build_prompt(own_prompts(asked), insisting, "7") == [("own", "BLINK", {})] and asked == [
        "BLINK"
    ]
    insisting.source.force_use_dataset_prompt = True
    assert build_prompt(own_prompts(asked), insisting, "7") == PROMPT


def test_a_models_own_video_prompt_gets_the_dataset_itself() -> None:
    whole = video()
    assert build_prompt(own_prompts([], VIDEO_LLM=True), whole, "7") == [
        ("own", whole.source, {"video_llm": True})
    ]
    with pytest.raises(ValueError, match="number of frames"):
        build_prompt(own_prompts([]), video(nframe=0, fps=1.0), "7")


def test_served_classes_never_make_their_own_video_prompts() -> None:
    asked: list[str] = []
    assert build_prompt(own_prompts(asked, is_api=True, VIDEO_LLM=True), video(), "7") == [
        {"type": "text", "value": "row 0, video True"}
    ]
    assert asked == []


@pytest.mark.parametrize(
    ("backend", "nframe", "shown"),
    [("vertex", 32, False), ("genai", 32, False), ("genai", 0, True), ("other", 32, True)],
)
def test_gemini_takes_a_video_file_only_by_rate(backend: str, nframe: int, shown: bool) -> None:
    gemini = SimpleNamespace(is_api=True, VIDEO_LLM=True, backend=backend)
    assert (
        build_prompt(gemini, video(nframe=nframe, fps=2.0 if nframe == 0 else -1), "7")[0]["value"]
        == f"row 0, video {shown}"
    )
    assert getattr(gemini, "fps", None) == (2.0 if shown and backend == "genai" else None)


def test_a_row_of_a_joined_dataset_has_the_name_of_its_part() -> None:
    names: list[str] = []
    answering = SimpleNamespace(generate=lambda message, dataset: names.append(dataset) or "A")
    ask(answering, video(SUB_DATASET="Part_32frame"))
    assert names == ["Part_32frame"]


@pytest.mark.parametrize(
    ("own", "offered", "after"),
    [
        ((128, 2), (32, -1), (32, None)),  # Qwen2VLChat and the like: the dataset's number, no rate
        ((8, 1), (32, -1), (32, None)),  # LLaVA_OneVision_HF
        ((64, 2), (0, 1.0), (None, 1.0)),
        ((None, 2), (32, -1), (None, None)),
    ],
)
def test_a_models_frames_are_set_to_the_datasets(
    own: tuple[object, object], offered: tuple[int, float], after: tuple[object, object]
) -> None:
    chat = SimpleNamespace(nframe=own[0], fps=own[1])
    match_frames(chat, SimpleNamespace(dataset_name="V", nframe=offered[0], fps=offered[1]))
    assert (chat.nframe, chat.fps) == after


def test_a_sampling_that_the_dataset_does_not_offer_is_an_error() -> None:
    with pytest.raises(ValueError, match="by nframe, V does not"):
        match_frames(
            SimpleNamespace(nframe=16), SimpleNamespace(dataset_name="V", nframe=0, fps=1.0)
        )


def test_a_prompt_made_before_another_benchmarks_is_answered_with_its_own_frames() -> None:
    chat = SimpleNamespace(nframe=128, fps=2)
    chat.generate = lambda message, dataset: chat.nframe
    first = build_prompt(chat, video(nframe=32), "7")
    build_prompt(chat, video(nframe=50), "7")
    assert generate(chat, video(nframe=32), "7", first).text == "32"


class Together(Datasets):
    """Tables whose first reading must be alone.

    The second and third readings end only when both are under way.
    """

    both = threading.Barrier(2)
    reading = 0
    readings = 0

    def _build(self, assignment: Assignment) -> tuple[int, LoadedDataset]:
        Together.readings += 1
        Together.reading += 1
        if Together.readings == 1:
            time.sleep(0.3)
            assert Together.reading == 1
        else:
            self.both.wait(20)
        Together.reading -= 1
        return 0, None


def test_a_table_is_made_by_one_worker_and_then_read_by_all_at_once(tmp_path: Path) -> None:
    assignment = Assignment("blink", "BLINK")
    work = Work((assignment,), launch=3)
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(Together(tmp_path, work).get, assignment) for _ in range(3)]:
            done.result(timeout=60)
    assert Together.readings == 3
