"""The generic class inside both backends.

Their message forms and settings go in, their result forms come out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rehearsal_data import checkpoint

pytestmark = pytest.mark.slow

QUESTION = "What is closest to the door?\nA. chair\nB. table\nC. sofa\nD. lamp"
REASONING = "End with a line formatted exactly as Answer: X\n" + QUESTION


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(checkpoint.build(tmp_path_factory.mktemp("tiny") / "model"))


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.RandomState(seed).randint(0, 255, (48, 64, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def vlmevalkit_model(model: str) -> object:
    generic = pytest.importorskip("easi_vlmevalkit.generic")
    return generic.EasiVLM(model, device="cpu", max_new_tokens=64)


def test_vlmevalkit_message_is_answered(vlmevalkit_model: object, tmp_path: Path) -> None:
    paths = [tmp_path / f"{seed}.png" for seed in range(2)]
    for seed, path in enumerate(paths):
        picture(seed).save(path)
    message = [
        *({"type": "image", "value": str(path)} for path in paths),
        {"type": "text", "value": QUESTION},
    ]
    text = vlmevalkit_model.generate(message, dataset="MMSIBench_wo_circular")
    assert text in "ABCD"
    assert (
        vlmevalkit_model.last.text,
        vlmevalkit_model.last.finish,
        vlmevalkit_model.last.frames,
    ) == (text, "stop", 2)


def test_vlmevalkit_defaults(model: str) -> None:
    generic = pytest.importorskip("easi_vlmevalkit.generic")
    plain = generic.EasiVLM(model, device="cpu")
    assert (plain.decoding.max_new_tokens, plain.decoding.temperature) == (2048, 0.0)
    assert (plain.INTERLEAVE, plain.VIDEO_LLM) == (True, False)
    short = generic.EasiVLM(model, device="cpu", max_new_tokens=2)
    short.generate(REASONING)
    assert (short.last.tokens, short.last.finish) == (2, "length")


def test_vlmevalkit_roles_become_messages() -> None:
    generic = pytest.importorskip("easi_vlmevalkit.generic")
    parts = [
        {"type": "text", "value": "Be brief.", "role": "system"},
        {"type": "image", "value": "a.png"},
        {"type": "text", "value": "Where?"},
    ]
    assert generic.conversation(parts) == [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {
            "role": "user",
            "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "Where?"}],
        },
    ]


def requests_for(lmms: object, settings: list[dict]) -> list:
    from lmms_eval.api.instance import Instance

    def to_messages(doc: dict) -> list[dict]:
        return [
            {
                "role": "user",
                "content": [
                    {"type": "image", "url": picture(doc["seed"])},
                    {"type": "text", "text": doc["text"]},
                ],
            }
        ]

    docs = [{"seed": number, "text": REASONING} for number in range(len(settings))]
    lmms.task_dict = {"task": {"test": docs}}
    return [
        Instance(
            request_type="generate_until",
            arguments=("", to_messages, each, number, "task", "test"),
            idx=0,
            metadata={"task": "task", "doc_id": number, "repeats": 1},
        )
        for number, each in enumerate(settings)
    ]


def test_lmms_eval_finds_and_runs_the_plugin(model: str) -> None:
    pytest.importorskip("lmms_eval")
    from lmms_eval.models.registry_v2 import ModelRegistryV2

    from easi_lmms_eval.plugin import manifests

    registry = ModelRegistryV2()
    for manifest in manifests():
        registry.register_manifest(manifest)
    lmms = registry.get_model_class("easi_vlm").create_from_arg_string(
        f"pretrained={model},min_pixels=784,max_pixels=3136",
        {"batch_size": "2", "max_batch_size": None, "device": "cpu"},
    )
    # Two groups of settings, interleaved: answers come back in the order of the requests.
    settings = [
        {"max_new_tokens": 64, "temperature": 0}
        if number % 2
        else {"max_new_tokens": 2, "until": ["\n"]}
        for number in range(5)
    ]
    results = lmms.generate_until(requests_for(lmms, settings))
    assert [each.text for each in results] == [each.text for each in lmms.last]
    assert [each.token_counts.output_tokens for each in results] == [
        each.tokens for each in lmms.last
    ]
    assert [each.finish for each in lmms.last] == ["length", "stop", "length", "stop", "length"]
    assert all("\nAnswer: " in lmms.last[number].text for number in (1, 3))
    assert lmms.generate_until([]) == []


def test_lmms_eval_refuses_unknown_model_args(model: str) -> None:
    generic = pytest.importorskip("easi_lmms_eval.generic")
    with pytest.raises(TypeError, match="max_pixel"):
        generic.EasiVLM(pretrained=model, device="cpu", max_pixel=3136)


def test_lmms_eval_settings_and_their_defaults() -> None:
    generic = pytest.importorskip("easi_lmms_eval.generic")
    plain = generic.decoding({"until": ["\n\n"]})
    assert (plain.max_new_tokens, plain.temperature, plain.num_beams) == (128, 0.0, 1)
    given = generic.decoding(
        {"max_new_tokens": 7, "temperature": 0.3, "top_p": 0.9, "top_k": 5, "num_beams": None}
    )
    assert (given.max_new_tokens, given.temperature, given.top_p, given.top_k, given.num_beams) == (
        7,
        0.3,
        0.9,
        5,
        1,
    )
