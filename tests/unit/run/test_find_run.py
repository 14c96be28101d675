"""Which folder a run belongs to.

Over genuine folders of the first rule (``data/first_identity``) and of the present one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from easi_eval.backends import make_backend
from easi_eval.config import RunConfig
from easi_eval.core.atomic_files import digest
from easi_eval.core.manifest import Manifest
from easi_eval.core.model import ModelChoice
from easi_eval.core.run_folder import RunPaths
from easi_eval.data.needs import HubSettings
from easi_eval.run.find_run import FoundRun, find_run, new_run
from easi_eval.run.identity import identity_fields
from easi_eval.run.plan import Plan
from easi_eval.run.smoke import rehearse
from evaluations import plan_of

FIRST = Path(__file__).parents[2] / "data" / "first_identity"
NAME = "easi-smoke__Tiny-VLM-96cb4113"
CFG = RunConfig(model="org/m")
MODEL = ModelChoice("org/m", "org/m", "Chat", "why", arguments={"x": 1})
HERE = {"transformers": "4.57.6", "torch": "2.9.1", "vllm": "0.11.0"}


# ---- runs of the first rule ----------------------------------------------------------------------


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output folder with a complete run of embspatial.

    The program made it when identities had no library versions.
    """
    shutil.copytree(FIRST, tmp_path / "out" / "runs" / "vlmevalkit")
    return tmp_path / "out"


def planned(out: Path) -> Plan:
    cfg = rehearse(RunConfig(smoke=True, output_dir=out, benchmarks=("embspatial",)), gpus=0)
    backend = make_backend(cfg.backend, HubSettings())
    return plan_of(cfg, backend)


def manifest_of(out: Path) -> Path:
    return out / "runs" / "vlmevalkit" / NAME / "run_manifest.json"


def change(out: Path, **changes: object) -> None:
    path = manifest_of(out)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_complete_run_of_the_first_rule_stays_complete(out: Path) -> None:
    plan = planned(out)
    assert (plan.paths.root.name, plan.todo, plan.skipped) == (
        NAME,
        (),
        (("embspatial", "complete, 18 questions"),),
    )
    assert plan.identity == json.loads(manifest_of(out).read_text())["identity"]
    assert plan.supplement == {"transformers": "4.57", "attention": {}}
    assert not any(
        "did not" in note or "does not say" in note or "differ" in note for note in plan.notes
    ), plan.notes


def test_a_half_answered_one_goes_on_under_its_epoch_and_fingerprint(out: Path) -> None:
    before = json.loads(manifest_of(out).read_text())["benchmarks"]["embspatial"]
    shutil.rmtree(manifest_of(out).parent / "outputs" / "embspatial")
    change(out, benchmarks={"embspatial": {**before, "state": ""}})
    plan = planned(out)
    [todo] = plan.todo
    assert plan.paths.root.name == NAME
    assert (todo.fingerprint, todo.epoch, todo.aside, todo.reason) == (
        before["fingerprint"],
        0,
        False,
        "not finished",
    )
    after = plan.manifest(Manifest.load(manifest_of(out)), {}, [])
    assert (after.fields, after.supplement) == (
        json.loads(manifest_of(out).read_text())["fields"],
        plan.supplement,
    )


def test_one_of_another_transformers_is_left_alone_and_the_field_is_named(out: Path) -> None:
    change(out, versions={"transformers": "5.1.0"})
    plan = planned(out)
    assert plan.paths.root.name != NAME and len(plan.todo) == 1
    assert [note for note in plan.notes if "transformers" in note] == [
        "new settings for this model: transformers (5.1 there, 4.57 here) differ from run "
        "96cb4113; its results are kept"
    ]


def test_one_of_another_patch_version_goes_on_and_says_so(out: Path) -> None:
    change(out, versions={"transformers": "4.57.3"})
    plan = planned(out)
    assert (plan.paths.root.name, plan.todo) == (NAME, ())
    assert any("transformers 4.57.3, 4.57.6" in note for note in plan.notes)


def test_a_version_that_was_not_recorded_is_unknown_and_noted(out: Path) -> None:
    change(out, versions={})
    plan = planned(out)
    assert (plan.paths.root.name, plan.todo) == (NAME, ())
    assert any("96cb4113 does not record its transformers" in note for note in plan.notes)


# ---- the present rule ----------------------------------------------------------------------------


def folder(
    out: Path, libraries: Mapping[str, str] = HERE, model: ModelChoice = MODEL, cfg: RunConfig = CFG
) -> FoundRun:
    return find_run(replace(cfg, output_dir=out), "1", model, libraries)


def begin(
    out: Path, libraries: Mapping[str, str] = HERE, model: ModelChoice = MODEL, cfg: RunConfig = CFG
) -> FoundRun:
    made = new_run(replace(cfg, output_dir=out), "1", model, libraries)
    Manifest(made.identity, made.fields, model.name).save(made.paths.manifest)
    return made


@pytest.mark.parametrize(
    ("libraries", "model", "same"),
    [
        # a patch version asks nothing again
        ({"transformers": "4.57.3", "torch": "2.8.0"}, MODEL, True),
        ({"transformers": "5.0.0"}, MODEL, False),
        ({"transformers": "4.58.0"}, MODEL, False),
        ({**HERE, "vllm": "0.12.0"}, MODEL, True),  # an engine that does not run the model
        # a model on an engine is another one than on transformers
        ({**HERE, "vllm": "0.11.2"}, replace(MODEL, engine="vllm"), False),
        (HERE, replace(MODEL, refers_to={"org/base": "abc"}), False),
        (HERE, replace(MODEL, arguments={"x": 1, "attn_implementation": "eager"}), False),
    ],
)
def test_what_goes_on_in_a_folder(
    tmp_path: Path, libraries: dict[str, str], model: ModelChoice, same: bool
) -> None:
    fields = identity_fields("vlmevalkit", "1", MODEL, CFG, HERE)
    assert (identity_fields("vlmevalkit", "1", model, CFG, libraries) == fields) is same
    first = begin(tmp_path)
    assert (first.identity == new_run(CFG, "1", model, libraries).identity) is same


def test_an_engines_minor_version_counts_and_an_unknown_one_differs_from_nothing(
    tmp_path: Path,
) -> None:
    model = replace(MODEL, engine="vllm")
    first = begin(tmp_path, model=model)
    assert first.fields["engine"] == {"vllm": "0.11"}
    assert folder(tmp_path, {**HERE, "vllm": "0.11.9"}, model).paths == first.paths
    assert folder(tmp_path, {**HERE, "vllm": "0.12.0"}, model).paths != first.paths
    # a machine without the engine, where what is there is sent
    elsewhere = folder(tmp_path, {"transformers": "4.57.0"}, model)
    assert (elsewhere.identity, elsewhere.fields) == (first.identity, first.fields)


def test_where_a_server_is_and_how_it_is_called_is_no_part_of_an_identity(tmp_path: Path) -> None:
    def served(text: str) -> dict[str, object]:
        cfg = RunConfig(model="openai", backend="lmms-eval", model_args=text)
        return identity_fields(
            "lmms-eval",
            "1",
            ModelChoice("m", "m", "openai", "", arguments=dict(cfg.model_arguments), served=True),
            cfg,
            HERE,
        )

    one = served(
        "model_version=m,base_url=http://a/v1,timeout=10,num_concurrent=2,max_size_in_mb=20"
    )
    assert one == served(
        "model_version=m,base_url=http://b/v1,timeout=99,num_concurrent=64,max_size_in_mb=20"
    )
    assert (
        one
        != served("model_version=m,base_url=http://a/v1,max_size_in_mb=5")
        != served("model_version=n,base_url=http://a/v1,max_size_in_mb=5")
    )
    assert "transformers" not in one


@pytest.mark.parametrize("before", [{"--device": "cuda"}, {"--device": "cpu"}, {}])
def test_runs_with_servers_go_on_whatever_device_and_trust_they_were_begun_with(
    before: dict[str, object], tmp_path: Path
) -> None:
    """Runs of earlier versions have the trust in code, and before that the device, in them."""
    cfg = replace(CFG, output_dir=tmp_path, base_url="http://a/v1")
    model = replace(MODEL, served=True)
    asked = [
        replace(cfg, device=device, trust_remote_code=trust)
        for device in (None, "cuda", "cpu")
        for trust in (False, True)
    ]
    new = {find_run(each, "1", model, HERE).identity for each in asked}
    fields = find_run(cfg, "1", model, HERE).fields
    assert len(new) == 1 and not {"--device", "--trust-remote-code"} & fields.keys()
    fields |= {**before, "--trust-remote-code": False}
    old = RunPaths.of(tmp_path, "vlmevalkit", "org/m", digest(fields))
    Manifest(digest(fields), fields, model.name).save(old.manifest)
    for each in asked:
        found = find_run(each, "1", model, HERE)
        assert (found.identity, found.paths, found.notes) == (digest(fields), old, ())
    # Where the model runs here, both count.
    here = new_run(CFG, "1", MODEL, HERE).fields
    assert (here["--device"], here["--trust-remote-code"]) == ("cuda", False)


def test_the_engine_of_servers_counts_and_an_unknown_one_differs_from_nothing(
    tmp_path: Path,
) -> None:
    model = replace(MODEL, served=True, server={"vllm": "0.19.1"})
    first = begin(tmp_path, model=model)
    assert first.fields["engine"] == {"vllm": "0.19"}
    for same in ({"vllm": "0.19.2"}, {}):
        assert folder(tmp_path, model=replace(model, server=same)).paths == first.paths
    for other in ({"vllm": "0.20.0"}, {"sglang": "0.19.1"}):
        assert folder(tmp_path, model=replace(model, server=other)).paths != first.paths


def test_a_variable_that_encodes_pictures_otherwise_is_part_of_a_served_identity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cfg = RunConfig(model="async_openai", backend="lmms-eval", model_args="model=m")
    ours = RunConfig(model="m", backend="lmms-eval", base_url="http://a/v1")
    client = ModelChoice("m", "m", "async_openai", "", served=True)

    def fields(of: RunConfig, served: bool = True) -> dict[str, object]:
        return identity_fields("lmms-eval", "1", replace(client, served=served), of, HERE)

    before = [fields(cfg), fields(cfg, served=False), fields(ours)]
    assert "image encoding" not in before[0]
    monkeypatch.setenv("LMMS_IMAGE_ENCODE_FORMAT", "JPEG")
    assert fields(cfg)["image encoding"] == {"LMMS_IMAGE_ENCODE_FORMAT": "JPEG"}
    # Models that run here are shown the pictures themselves, and our client ignores the variable.
    assert before[1:] == [fields(cfg, served=False), fields(ours)]


def test_a_base_that_changed_under_the_first_rules_folder_is_another_run(tmp_path: Path) -> None:
    """A changed base makes another run, although the old identity does not name the base.

    The base is named in what the present program recorded when it first continued the run.
    """
    cfg = replace(CFG, output_dir=tmp_path)
    old = new_run(cfg, "1", MODEL, HERE)
    from easi_eval.core.atomic_files import digest
    from easi_eval.core.run_folder import RunPaths
    from easi_eval.run.identity import first_identity_fields

    fields = first_identity_fields("vlmevalkit", "1", MODEL, cfg)
    paths = RunPaths.of(tmp_path, "vlmevalkit", "org/m", digest(fields))
    adapter = replace(MODEL, refers_to={"/base": "abc"})
    Manifest(digest(fields), fields, "org/m", versions={"transformers": "4.57.6"}).save(
        paths.manifest
    )
    going_on = folder(tmp_path, model=adapter)
    assert going_on.paths == paths != old.paths and any(
        "refers to" in note for note in going_on.notes
    )
    Manifest(digest(fields), fields, "org/m", supplement=going_on.supplement_of(fields)).save(
        paths.manifest
    )
    assert folder(tmp_path, model=adapter).paths == paths
    assert folder(tmp_path, model=replace(MODEL, refers_to={"/base": "abd"})).paths != paths
