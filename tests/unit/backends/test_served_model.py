"""What the plan knows of a served model (``--base-url``), on both backends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from easi_eval.backends import make_backend, resolved
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.core.model import ModelChoice
from easi_eval.core.run_folder import RunPaths
from easi_eval.data.needs import HubSettings
from easi_eval.run.identity import identity_fields
from openai_server import openai_server
from program import a_closed_port

BACKENDS = ("vlmevalkit", "lmms-eval")


def choice(backend: str, base_url: str, **options: Any) -> ModelChoice:
    cfg = RunConfig(model="org/served", backend=backend, base_url=base_url, **options)
    return resolved(cfg, make_backend(backend, HubSettings()), HubSettings())


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_models_name_is_the_servers_and_the_plan_says_what_samples(backend: str) -> None:
    with openai_server() as server:
        model = choice(backend, server.base, nproc=4)
    assert (model.name, model.path, model.served, model.needs_gpu) == (
        *("org/served", "org/served"),
        *(True, False),
    )
    assert model.server == {"vllm": "0.19.1"} and "vllm 0.19.1" in model.why
    assert any(note.startswith("sampling: ") and "max_tokens" in note for note in model.notes)
    assert model.arguments["num_concurrent"] == 4  # of 16 that a server has open at first
    assert model.arguments["base_url"] == server.base


@pytest.mark.parametrize("backend", BACKENDS)
def test_sampling_and_pictures_are_part_of_the_identity_and_the_connection_is_not(
    backend: str,
) -> None:
    def fields(base_url: str, args: str = "", nproc: int = 1) -> dict[str, object]:
        cfg = RunConfig(
            model="org/served", backend=backend, base_url=base_url, model_args=args, nproc=nproc
        )
        model = resolved(cfg, make_backend(backend, HubSettings()), HubSettings())
        return identity_fields(backend, "1", model, cfg)

    with openai_server() as one, openai_server() as other:
        same = fields(one.base)
        assert same == fields(f"{other.base},{one.base}", "num_concurrent=4,timeout=9", nproc=8)
        changed = ["temperature=0.7", "max_tokens=99", "image_format=JPEG", "system_prompt=briefly"]
        assert all(fields(one.base, args) != same for args in changed)
        jpeg = [fields(one.base, f"image_format={name}") for name in ("JPEG", "jpeg")]
        assert jpeg[0]["class arguments"] == jpeg[1]["class arguments"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_who_reads_the_pictures_is_told_and_is_no_part_of_the_identity(
    backend: str, tmp_path: Path
) -> None:
    found = {}
    for files in ("", str(tmp_path)):
        with openai_server(files=files) as server:
            cfg = RunConfig("org/served", backend, base_url=server.base, dataset_dir=tmp_path)
            model = resolved(cfg, make_backend(backend, HubSettings()), HubSettings())
        found[files] = identity_fields(backend, "1", model, cfg)
        told = [note for note in model.notes if str(tmp_path) in note]
        if backend == "lmms-eval":  # its pictures are no files
            assert not told and "readable" not in model.arguments
            continue
        assert ("the servers read" in told[0]) is bool(files)
        assert files or "--allowed-local-media-path" in told[0]
        assert model.arguments.get("readable", "") == files
    assert found[""] == found[str(tmp_path)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("pretrained=a/b", "takes no pretrained="),
        ("temprature=1", "takes no temprature="),
        ("max_tokens=many", "max_tokens=many"),
        ("max_tokens=0", "max_tokens=0"),
        ("num_concurrent=2.5", "num_concurrent=2.5"),
        ("timeout=0", "timeout=0"),
        ("timeout=True", "timeout=True"),
        ("temperature=-1", "temperature=-1"),
        ("temperature=1e999", "temperature=1e999"),
        ("top_p=7", "top_p=7"),
        ("image_format=GIF", "image_format=GIF"),
    ],
)
def test_arguments_that_the_client_does_not_take_are_refused(
    backend: str, args: str, says: str
) -> None:
    nobody = f"http://127.0.0.1:{a_closed_port()}/v1"
    with pytest.raises(EasiError) as told:
        choice(backend, nobody, model_args=args)
    assert says in told.value.message and told.value.hint


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_dead_server_of_two_is_told_and_all_dead_ones_refuse_the_run(backend: str) -> None:
    nobody = f"http://127.0.0.1:{a_closed_port()}/v1"
    with openai_server() as server:
        cfg = RunConfig(model="org/served", backend=backend, base_url=f"{nobody},{server.base}")
        here = make_backend(backend, HubSettings())
        model = here.resolve(cfg)
        assert any(note.startswith(f"{nobody} cannot be used now") for note in model.notes)
        here.ready(cfg, model)
        alone = replace(cfg, base_url=nobody)
        model = here.resolve(alone)  # a run that is answered needs no server
        with pytest.raises(EasiError, match="refused"):
            here.ready(alone, model)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_server_of_two_that_refuses_questions_refuses_the_run(backend: str) -> None:
    """Its share of the questions would be failed."""
    with openai_server() as first, openai_server(status=lambda text, before: 400) as second:
        cfg = RunConfig("org/served", backend, base_url=f"{first.base},{second.base}")
        here = make_backend(backend, HubSettings())
        with pytest.raises(EasiError, match="told to say 400") as told:
            here.ready(cfg, here.resolve(cfg))
    assert second.base in told.value.message and first.base not in told.value.message


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_processes_of_a_served_model_are_those_of_nproc(backend: str) -> None:
    with openai_server() as server:
        cfg = RunConfig(model="org/served", backend=backend, base_url=server.base, nproc=3)
        here = make_backend(backend, HubSettings())
        job = here.answer_job(
            cfg,
            here.resolve(cfg),
            cfg.selected[:1],
            RunPaths.of(cfg.output_dir, backend, "m", "0" * 64),
            1,
        )
    assert "--nproc-per-node=3" in job.argv


def test_a_word_for_vlmevalkits_own_servers_after_the_dashes_is_refused() -> None:
    with openai_server() as server, pytest.raises(EasiError, match="after --: --base-url"):
        choice("vlmevalkit", server.base, backend_args=("--base-url", server.base))
