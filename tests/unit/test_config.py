"""RunConfig, SubmissionConfig and the model-argument parser.

What they take, what they refuse, and the way back to text.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import fields, replace
from pathlib import Path

import pytest

from easi_eval.benchmarks import ALL_KEYS, CORE_KEYS
from easi_eval.cli import parse
from easi_eval.config import RunConfig, SubmissionConfig
from easi_eval.core.errors import EasiError
from easi_eval.core.model_args import format_model_args, parse_model_args

META = {
    "modelName": "Qwen/Qwen2.5-VL-7B-Instruct",
    "modelType": "instruction",
    "precision": "bfloat16",
}
SUBMISSION = SubmissionConfig(**META)


# ---- model arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (
            "pretrained=Qwen/Qwen3-VL-8B-Instruct,attn_implementation=flash_attention_2",
            {"pretrained": "Qwen/Qwen3-VL-8B-Instruct", "attn_implementation": "flash_attention_2"},
        ),
        ('a=b,c={"x":1,"y":2}', {"a": "b", "c": '{"x":1,"y":2}'}),
        ("a=[1,2,(3,4)],b=1", {"a": "[1,2,(3,4)]", "b": "1"}),
        ("a=\"x,y\",b='p,q'", {"a": '"x,y"', "b": "'p,q'"}),
        ('a={"s":"}, not yet",  "t":[1,2]},b=1', {"a": '{"s":"}, not yet",  "t":[1,2]}', "b": "1"}),
        (r'a={"s":"say \"a, b\""},b=1', {"a": r'{"s":"say \"a, b\""}', "b": "1"}),
        ("url=http://h:1/v1?x=1&y=2", {"url": "http://h:1/v1?x=1&y=2"}),
        ("prompt=You're the model,b=1", {"prompt": "You're the model", "b": "1"}),
        (" a = 1 , b= 2 ,", {"a": "1", "b": "2"}),
        ("a=", {"a": ""}),
        ("pfad=/Модели/模型 1", {"pfad": "/Модели/模型 1"}),
    ],
)
def test_model_args(text: str, expected: dict[str, str]) -> None:
    assert parse_model_args(text) == expected
    assert parse_model_args(format_model_args(expected)) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Qwen/Qwen3-VL-8B-Instruct", "has no '='"),
        ("pretrained=x,flash", "'flash' has no '='"),
        ("=x", "no name"),
        ("a=1,=2", "no name"),
        ("a=1,a=2", "a is given twice"),
        ('a={"x":1,b=2', "} missing"),
        ("a=[1,2,b=3", "] missing"),
        ('a="x,b=2', '" missing'),
    ],
)
def test_malformed_model_args(text: str, says: str) -> None:
    with pytest.raises(EasiError) as error:
        parse_model_args(text)
    assert says in error.value.message
    assert error.value.hint


# ---- RunConfig -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "what", "hint"),
    [
        ({}, "--model is missing", "--model Qwen/"),
        ({"model": " "}, "--model is missing", ""),
        ({"backend": "lmms-eval"}, "--model is missing", "--model-args pretrained="),
        (
            {"model": "m", "backend": "lmms_eval"},
            "--backend is 'lmms_eval'",
            "did you mean lmms-eval?",
        ),
        (
            {"model": "m", "backend": "nothing"},
            "--backend is 'nothing'",
            "use one of vlmevalkit, lmms-eval",
        ),
        ({"model": "qwen3_vl", "backend": "lmms-eval"}, "needs --model-args", "pretrained="),
        ({"model": "qwen3_vl", "backend": "lmms-eval", "model_args": "x"}, "has no '='", ""),
        ({"model": "m", "nproc": 0}, "--nproc is 0", "use 1 or more"),
        ({"model": "m", "nproc": -2}, "--nproc is -2", "use 1 or more"),
        ({"model": "m", "limit": 0}, "--limit is 0", "use 1 or more"),
        (
            {
                "model": "m",
                "model_args": "a=1",
                "backend": "lmms-eval",
                "no_accelerate": True,
                "nproc": 8,
            },
            "--no-accelerate with --nproc 8",
            "leave out",
        ),
        ({"model": "m", "judge": ""}, "--judge is empty", ""),
        ({"model": "m", "device": "gpu"}, "--device is 'gpu'", "cuda, cpu, mps"),
        ({"model": "m", "device": "cuda:1"}, "--device is 'cuda:1'", "CUDA_VISIBLE_DEVICES"),
        ({"model": "m", "benchmarks": ("vsibench2",)}, "unknown benchmark vsibench2", "vsi_bench"),
        ({"model": "m", "benchmarks": ("",)}, "names no benchmark", ""),
        ({"model": "m", "submit": True}, "needs --submission-configs", "modelName"),
        ({"model": "m", "resubmit": True}, "--resubmit without --submit", "add --submit"),
        (
            {"model": "m", "submit": True, "submission": SUBMISSION, "limit": 3},
            "--submit with --limit",
            "leave out",
        ),
        (
            {"model": "m", "submit": True, "submission": SUBMISSION, "smoke": True},
            "--submit with --smoke",
            "leave out",
        ),
        ({"smoke": True, "model_args": "a=1"}, "--model-args without --model", ""),
        (
            {"model": "m", "model_args": 'a=1,x={"my_api_key": "hidden"}'},
            "--model-args hold a secret (my_api_key)",
            "OPENAI_API_KEY",
        ),
        (
            {"model": "m", "model_args": "password=hidden"},
            "--model-args hold a secret (password)",
            "environment",
        ),
        (
            {"model": "m", "backend_args": ("--hf_hub_log_args", "token=hidden")},
            "the arguments after -- hold a secret (token)",
            "HF_TOKEN",
        ),
    ],
)
def test_refused(options: dict[str, object], what: str, hint: str) -> None:
    with pytest.raises(EasiError) as error:
        RunConfig(**options)
    assert what in error.value.message
    assert hint in error.value.hint
    assert error.value.code == 2
    assert "hidden" not in error.value.message + error.value.hint


def test_smoke_brings_its_own_model_on_both_backends() -> None:
    assert RunConfig(smoke=True).model == ""
    assert RunConfig(smoke=True, backend="lmms-eval").model_args == ""
    with pytest.raises(EasiError, match="--model-args"):
        RunConfig(smoke=True, backend="lmms-eval", model="qwen3_vl")


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({}, CORE_KEYS),
        ({"include_extra": True}, ALL_KEYS),
        ({"benchmarks": ("blink", "vsi_bench")}, ("vsi_bench", "blink")),
        ({"benchmarks": ("SITE, ", "BLINK")}, ("site_image", "site_video", "blink")),
        (
            {"benchmarks": ("blink", "omnispatial_(manual_cot)")},
            ("blink", "omnispatial_(manual_cot)"),
        ),
        ({"benchmarks": ("blink",), "include_extra": True}, ("blink",)),
    ],
)
def test_selected_is_in_registry_order(options: dict[str, object], keys: tuple[str, ...]) -> None:
    assert tuple(bench.key for bench in RunConfig(model="m", **options).selected) == keys


def test_retrying_some_of_the_extras_does_not_bring_the_others_back() -> None:
    retry = replace(RunConfig(model="m", include_extra=True), benchmarks=("spar_bench",))
    assert [bench.key for bench in retry.selected] == ["spar_bench"]
    assert parse(retry.to_argv()) == retry


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, ()),
        ({"judge": "exact_matching", "dataset_dir": Path("d")}, ()),
        # the rehearsal's own folder
        (
            {"backend": "lmms-eval", "model_args": "a=b", "smoke": True, "dataset_dir": Path("d")},
            (),
        ),
        ({"no_accelerate": True}, ("--no-accelerate has no effect with --backend vlmevalkit",)),
        (
            {"base_url": "http://a", "device": "cpu"},
            ("--device has no effect with --base-url",),
        ),
        (
            {"base_url": "http://a", "trust_remote_code": True, "smoke": True},
            ("--trust-remote-code has no effect with --base-url",),
        ),
        # the rehearsal's own device
        ({"base_url": "http://a", "device": "cpu", "smoke": True}, ()),
        (
            {"backend": "lmms-eval", "model_args": "a=b", "judge": "x", "dataset_dir": Path("d")},
            (
                "--judge has no effect with --backend lmms-eval",
                "--dataset-dir has no effect with --backend lmms-eval",
            ),
        ),
    ],
)
def test_options_without_effect_are_said(options: dict[str, object], said: tuple[str, ...]) -> None:
    assert RunConfig(model="m", **options).ignored == said


EVERYTHING = RunConfig(
    model="qwen3_vl",
    backend="lmms-eval",
    model_args='pretrained=a b/c,x={"p":"it\'s, ok"}',
    benchmarks=("blink", "site_image"),
    judge="gpt-4o-1120",
    extraction_threshold=0.1,
    output_dir=Path("out put"),
    dataset_dir=Path("/data"),
    submit=True,
    resubmit=True,
    submission=SubmissionConfig(**META, baseModel="Qwen3", remarks='né "quoted", $HOME'),
    rerun=True,
    no_accelerate=True,
    verbose=True,
    no_rich=True,
    dry_run=True,
    plain=True,
    device="cpu",
    trust_remote_code=True,
    model_name_differs=True,
    no_corrections=True,
    vsi_input="frames",
    backend_path=Path("../fork"),
    backend_args=("--batch_size", "4", "--", "--gen_kwargs", "a=b c"),
)


@pytest.mark.parametrize(
    "cfg",
    [
        RunConfig(model="Qwen/Qwen2.5-VL-7B-Instruct"),
        RunConfig(smoke=True),
        RunConfig(smoke=True, backend="lmms-eval", limit=2, include_extra=True),
        RunConfig(model="-odd", judge="--odd"),
        RunConfig(model="m", submission=SUBMISSION),
        RunConfig(model="m", include_extra=True),
        RunConfig(model="m", output_dir=Path()),
        EVERYTHING,
        replace(EVERYTHING, benchmarks=("blink",), no_accelerate=False, nproc=8),
        replace(EVERYTHING, submit=False, resubmit=False, smoke=True, limit=7),
        RunConfig(model="m", extraction_threshold=1e-05),
        RunConfig(model="org/m", base_url="http://a:1/v1,http://b:2/v1", nproc=8),
        RunConfig(model="org/m", backend="lmms-eval", base_url="https://a.b/v1", smoke=True),
        RunConfig(model="m", nproc=8, nodes=4, slurm="--partition=gpu --time=4:00:00"),
        RunConfig(
            import_results=Path("their results"),
            as_model="org/Tiny",
            benchmarks=("blink",),
            submission=SUBMISSION,
            submit=True,
        ),
    ],
    ids=lambda cfg: " ".join(cfg.to_argv())[:40],
)
def test_to_argv_parses_back(cfg: RunConfig) -> None:
    assert parse(cfg.to_argv()) == cfg
    assert (
        parse(
            shlex.split(cfg.command())[1:]
            if cfg.command().startswith("easi-eval")
            else shlex.split(cfg.command())[2:]
        )
        == cfg
    )


def test_every_field_is_covered_by_the_round_trip() -> None:
    """A field added to RunConfig must be given an option and stand in EVERYTHING above."""
    plain = RunConfig(smoke=True)
    same = {
        field.name
        for field in fields(RunConfig)
        if getattr(EVERYTHING, field.name) == getattr(plain, field.name)
    }
    # refused beside others there; covered by the other cases
    assert same == {
        "include_extra",
        "limit",
        "nproc",
        "import_results",
        "as_model",
        "base_url",
        "nodes",
        "slurm",
    }


# ---- servers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("http://h:8000/v1", "http://h:8000/v1"),
        ("http://h:8000", "http://h:8000/v1"),
        ("http://h:8000/v1/chat/completions", "http://h:8000/v1"),
        (" http://a/v1/ , https://[::1]:2/p/v1,", "http://a/v1,https://[::1]:2/p/v1"),
    ],
)
def test_addresses_of_servers_are_normalised(text: str, urls: str) -> None:
    cfg = RunConfig(model="m", base_url=text)
    assert cfg.base_url == urls and cfg.servers == tuple(urls.split(","))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--base-url", "node7:8000"], "not an http(s) address"),
        (["--base-url", "http://"], "not an http(s) address"),
        (["--base-url", "http://h:port/v1"], "not an http(s) address"),
        (["--base-url", "http://h/v1 http://b/v1"], "not an http(s) address"),
        (["--base-url", ""], "--base-url is empty"),
        (["--base-url", ","], "--base-url is empty"),
        (["--base-url", "http://h,http://h/v1"], "twice"),
        (["--base-url", "http://me:secret@h/v1"], "user name or password"),
        (["--base-url", "http://h/v1?key=1"], "more than a path"),
        (["--base-url", "http://h/v1", "--plain"], "--plain with --base-url"),
        (["--base-url", "http://h/v1", "--vsi-input", "frames"], "--vsi-input with --base-url"),
        (["--base-url", "http://h/v1", "--base-url", "http://g/v1"], "--base-url is given 2 times"),
    ],
)
def test_addresses_that_cannot_be_meant_are_refused(options: list[str], says: str) -> None:
    with pytest.raises(EasiError) as told:
        parse(["--model", "m", *options])
    assert says in told.value.message and told.value.hint


def test_a_served_model_needs_a_name_and_no_arguments() -> None:
    with pytest.raises(EasiError, match="--model is missing"):
        parse(["--base-url", "http://h/v1", "--smoke"])
    assert not parse(
        ["--backend", "lmms-eval", "--model", "m", "--base-url", "http://h/v1"]
    ).model_args


# ---- SubmissionConfig ----------------------------------------------------------------------------


def test_the_guides_own_example() -> None:
    text = json.dumps(
        {
            **META,
            "revision": "main",
            "weightType": "Original",
            "baseModel": "",
            "remarks": "Submitted via script",
        }
    )
    config = SubmissionConfig.from_json(text)
    assert config == SubmissionConfig(**META, remarks="Submitted via script")
    assert SubmissionConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("changes", "what", "hint"),
    [
        ({"modelName": "Qwen2.5"}, "modelName is 'Qwen2.5'", "org/model"),
        ({"modelName": "a/b/c"}, "modelName", "org/model"),
        ({"modelName": "/b"}, "modelName", "org/model"),
        ({"modelName": "a/b c"}, "modelName", "org/model"),
        ({"modelName": ""}, "modelName", "org/model"),
        ({"modelType": "instruct"}, "modelType is 'instruct'", "instruction"),
        ({"modelType": "RL"}, "modelType is 'RL'", "did you mean rl?"),
        ({"modelType": "x"}, "modelType is 'x'", "pretrained, finetuned, instruction, rl"),
        ({"precision": "bf16"}, "precision is 'bf16'", "float16"),
        ({"precision": "int4"}, "precision is 'int4'", "int8"),
        ({"weightType": "original"}, "weightType is 'original'", "did you mean Original?"),
        ({"weightType": "Delta"}, "baseModel is missing", "org/model"),
        ({"weightType": "Adapter", "baseModel": " "}, "baseModel is missing", "org/model"),
        ({"revision": ""}, "revision is empty", "main"),
        ({"remarks": 3}, "remarks is 3, not a text", "quotes"),
        ({"remarks": "x" * 4001}, "remarks has 4,001 characters", "4,000"),
        ({"remarks": "a\ud800"}, "remarks holds an incomplete Unicode character", "UTF-8"),
        ({"baseModel": None}, "baseModel is null, not a text", "quotes"),
        ({"model_name": "a/b"}, "unknown field 'model_name'", "did you mean modelName?"),
        ({"zzz": ""}, "unknown field 'zzz'", "the fields are modelName"),
    ],
)
def test_submission_field_rules(changes: dict[str, object], what: str, hint: str) -> None:
    with pytest.raises(EasiError) as error:
        SubmissionConfig.from_json(json.dumps({**META, **changes}))
    assert what in error.value.message
    assert hint in error.value.hint


def test_metadata_may_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "meta é.json"
    path.write_text("\ufeff" + json.dumps(META), encoding="utf-8")
    assert (
        SubmissionConfig.from_option(f"@{path}")
        == SubmissionConfig.from_option(json.dumps(META))
        == SubmissionConfig(**META)
    )
    assert parse(
        ["--model", "m", "--submission-configs", f"@{path}"]
    ).submission == SubmissionConfig(**META)
    path.write_text("{}", encoding="utf-8")
    for value, what in (
        (f"@{path}", "missing"),
        (f"@{tmp_path}", "cannot be read"),
        (f"@{tmp_path}/gone", "cannot be read"),
        ("@", "cannot be read"),
    ):
        with pytest.raises(EasiError, match=what):
            SubmissionConfig.from_option(value)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(EasiError, match="cannot be read"):
        SubmissionConfig.from_option(f"@{path}")
    path.write_bytes(b" " * (2 << 20))
    with pytest.raises(EasiError, match="2,097,152 bytes"):
        SubmissionConfig.from_option(f"@{path}")


def test_a_meant_difference_needs_metadata() -> None:
    with pytest.raises(EasiError, match="--model-name-differs without"):
        RunConfig(model="m", model_name_differs=True)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{modelName: x}", "is not JSON"),
        ("", "is not JSON"),
        ('["a"]', "is not a JSON object"),
        ("{}", "modelName, modelType, precision missing"),
        ('{"modelName": "a/b", "precision": "int8"}', "modelType missing"),
        ('{"modelName": "a/b", "modelName": "c/d"}', "modelName is given twice"),
    ],
)
def test_submission_json(text: str, what: str) -> None:
    with pytest.raises(EasiError, match="--submission-configs") as error:
        SubmissionConfig.from_json(text)
    assert what in error.value.message


@pytest.mark.parametrize("weights", ["Delta", "Adapter"])
def test_delta_and_adapter_with_their_base(weights: str) -> None:
    assert SubmissionConfig(**META, weightType=weights, baseModel="a/b").weightType == weights
