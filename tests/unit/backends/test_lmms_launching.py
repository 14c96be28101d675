"""How lmms-eval is launched, and which folders its runs get.

Commands are compared as data; accelerate itself runs with a hostile configuration.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from easi_eval.backends.lmms_eval.backend import LmmsEval
from easi_eval.benchmarks import by_key
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.core.model import ModelChoice
from easi_eval.core.model_args import format_model_args, parse_model_args
from easi_eval.core.run_folder import RunPaths
from easi_eval.data.cards import license_of
from easi_eval.data.model_file import fetch_model_file
from easi_eval.data.needs import HubSettings
from easi_eval.engine.processes import launchers
from easi_eval.run.decide import SCORING_ONLY
from easi_eval.run.identity import identity_fields
from easi_eval.submission.checkpoint_match import match_checkpoint
from evaluations import plan_of

TODO = [by_key(key) for key in ("mmsi_bench", "spar_bench")]


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LmmsEval:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return LmmsEval(HubSettings(hf_home=tmp_path / "hf", offline=True))


def cfg(model_args: str = "pretrained=org/model", **options: object) -> RunConfig:
    return RunConfig(model="qwen2_5_vl", backend="lmms-eval", model_args=model_args, **options)


def job(backend: LmmsEval, asked: RunConfig) -> tuple[str, ...]:
    return backend.answer_job(
        asked,
        backend.resolve(asked),
        TODO,
        RunPaths.of(asked.output_dir, "lmms-eval", "m", "i" * 64),
        12345,
    ).argv


@pytest.mark.parametrize("nproc", [1, 4])
def test_on_gpus_it_is_accelerate_with_every_flag(backend: LmmsEval, nproc: int) -> None:
    argv = job(backend, cfg(nproc=nproc))
    assert argv[1:3] == ("-m", "accelerate.commands.launch")
    assert {
        f"--num_processes={nproc}",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
        "--main_process_port=12345",
        f"--config_file={launchers.ACCELERATE_CONFIG}",
    } <= set(argv)
    assert argv[argv.index("--tasks") + 1] == "mmsi_bench,sparbench", (
        "one launch for all that is pending"
    )


def test_on_the_cpu_several_workers_need_torchrun(backend: LmmsEval) -> None:
    assert "torch.distributed.run" in job(backend, cfg(nproc=2, device="cpu"))
    assert job(backend, cfg(device="cpu"))[1:3] == ("-m", "easi_lmms_eval")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("./models/typo", "there is no such folder"),
        ("/nowhere/m", "there is no such folder"),
        ("~/nothing-there/m", "there is no such folder"),
        ("a/b/", "neither a folder nor a hub id"),
    ],
)
def test_a_mistyped_checkpoint_is_refused_before_anything_is_fetched(
    backend: LmmsEval, path: str, said: str
) -> None:
    with pytest.raises(EasiError, match=f"pretrained={path}:? .*{said}"):
        backend.resolve(cfg(f"pretrained={path}"))


@pytest.mark.parametrize(
    ("type_", "text", "message", "hint"),
    [
        ("qwen2_5_vl", "pretrained=", "pretrained= is empty", "org/model"),
        ("qwen2_5_vl", "pretrained=a/b,peft=", "peft= is empty", "leave it out"),
        (
            "qwen2_5_vl",
            "attn_implementation=sdpa",
            "names no checkpoint",
            "write pretrained=Qwen/Qwen2.5-VL-3B-Instruct",
        ),
        ("qwen2_5_vl", "peft=a/b", "names no checkpoint", "write pretrained="),
        (
            "qwen3_vl",
            "model=a/b",
            "takes pretrained=, not model=",
            "write --model-args pretrained=a/b",
        ),
        ("vllm", "pretrained=a/b", "takes model=, not pretrained=", "write --model-args model=a/b"),
    ],
)
def test_no_run_is_named_after_a_checkpoint_that_is_not_loaded(
    backend: LmmsEval, type_: str, text: str, message: str, hint: str
) -> None:
    """Nearly every class has a default checkpoint that it loads where it is given none.

    Some classes drop arguments that they do not know.
    """
    with pytest.raises(EasiError, match=message) as refused:
        backend.resolve(RunConfig(model=type_, backend="lmms-eval", model_args=text))
    assert hint in refused.value.hint


def test_a_folder_below_the_home_is_found(
    backend: LmmsEval, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = checkpoint(tmp_path / "models" / "Some-VLM", "{}")
    assert backend.resolve(cfg("pretrained=~/models/Some-VLM/")).path == str(folder.resolve())


def test_without_accelerate_it_is_one_process_that_sees_all_gpus(backend: LmmsEval) -> None:
    asked = cfg(no_accelerate=True)
    made = backend.answer_job(
        asked,
        backend.resolve(asked),
        TODO,
        RunPaths.of(asked.output_dir, "lmms-eval", "m", "i" * 64),
        12345,
    )
    assert made.argv[:3] == (sys.executable, "-m", "easi_lmms_eval")
    assert "CUDA_VISIBLE_DEVICES" not in made.env


@pytest.mark.slow
def test_a_users_own_accelerate_configuration_has_no_say(tmp_path: Path) -> None:
    """It asks for four machines, another precision and another port.

    The real accelerate starts the program all the same.
    """
    home = tmp_path / "huggingface"
    (home / "accelerate").mkdir(parents=True)
    (home / "accelerate" / "default_config.yaml").write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_machines: 4\n"
        "machine_rank: 3\nnum_processes: 8\n"
        "mixed_precision: fp8\nmain_process_ip: 10.255.255.1\nmain_process_port: 1\n"
        "use_cpu: false\n"
    )
    program = tmp_path / "program.py"
    program.write_text(
        "import os\nprint('MIXED', os.environ.get('ACCELERATE_MIXED_PRECISION'), 'WORLD', "
        "os.environ.get('WORLD_SIZE', '1'))\n"
    )
    done = subprocess.run(
        launchers.accelerate(1, launchers.free_port(), [str(program)]),
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "HF_HOME": str(home), "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "MIXED no WORLD 1" in done.stdout


# ---- model arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'pretrained=a/b,size={"max_pixels":1,"min_pixels":2}',
            {"pretrained": "a/b", "size": '{"max_pixels":1,"min_pixels":2}'},
        ),
        ("pretrained=a/b,extra=x=y=z,tp=2", {"pretrained": "a/b", "extra": "x=y=z", "tp": "2"}),
        ("pretrained=a/b,peft=c/d,", {"pretrained": "a/b", "peft": "c/d"}),
    ],
)
def test_commas_in_braces_and_equals_signs_belong_to_the_value(
    backend: LmmsEval, text: str, expected: dict[str, str]
) -> None:
    assert parse_model_args(text) == expected
    argv = job(backend, replace(cfg(text), model="internvl_hf"))  # a class that takes any name
    assert parse_model_args(argv[argv.index("--model_args") + 1]).items() >= expected.items()
    assert parse_model_args(format_model_args(expected)) == expected


# ---- folders -------------------------------------------------------------------------------------


def checkpoint(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(content)
    return folder


def root(backend: LmmsEval, asked: RunConfig) -> Path:
    return plan_of(asked, backend).paths.root


def test_a_trailing_slash_changes_nothing(backend: LmmsEval, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "one" / "org" / "model", "{}")
    assert root(backend, cfg(f"pretrained={folder}/")) == root(backend, cfg(f"pretrained={folder}"))


def test_two_checkpoints_with_equal_last_parts_do_not_meet(
    backend: LmmsEval, tmp_path: Path
) -> None:
    folders = [
        checkpoint(tmp_path / name / "org" / "model", content)
        for name, content in (("one", "{}"), ("two", '{"a": 1}'), ("three", "{}"))
    ]
    roots = [root(backend, cfg(f"pretrained={folder}")) for folder in folders]
    assert len(set(roots)) == 3


# ---- corrections ---------------------------------------------------------------------------------


def test_corrections_are_settings_of_scoring_alone(backend: LmmsEval) -> None:
    spar, other = by_key("spar_bench"), by_key("mmsi_bench")
    on, off = cfg(), cfg(no_corrections=True)
    assert backend.settings(on, other) == backend.settings(off, other)
    differing = {
        name
        for name in backend.settings(on, spar)
        if backend.settings(on, spar)[name] != backend.settings(off, spar)[name]
    }
    assert differing == {"corrections"} and differing <= SCORING_ONLY
    assert root(backend, on) == root(backend, off), "the answers are the same"


@pytest.mark.parametrize(("nproc", "size", "workers"), [(8, 1, 8), (8, 4, 2), (4, 4, 1), (1, 2, 1)])
def test_engines_are_as_many_as_fit_and_never_none(
    backend: LmmsEval, nproc: int, size: int, workers: int
) -> None:
    """The last case is a run whose engine lacked memory, so that fewer workers were started."""
    asked = RunConfig(
        model="vllm",
        model_args=f"model=a/b,tensor_parallel_size={size}",
        backend="lmms-eval",
        nproc=nproc,
    )
    assert backend.workers(asked, backend.resolve(asked)) == workers


@pytest.mark.parametrize(
    ("model", "model_args", "hint"),
    [
        # the class asserts that nothing is left
        ("qwen2_5_vl", "pretrained=org/model,max_pixel=1003520", "did you mean max_pixels"),
        ("internvl2", "pretrained=org/model,max_pixel=1003520", None),  # the class takes any name
    ],
)
def test_an_argument_that_the_class_would_fail_on_is_refused_at_once(
    backend: LmmsEval, model: str, model_args: str, hint: str | None
) -> None:
    asked = RunConfig(model=model, backend="lmms-eval", model_args=model_args)
    if hint is None:
        assert backend.resolve(asked).arguments["max_pixel"] == "1003520"
        return
    with pytest.raises(EasiError, match=f"{model} takes no max_pixel=") as refused:
        backend.resolve(asked)
    assert hint in (refused.value.hint or "")


def test_where_the_cache_may_only_be_read_the_datasets_library_writes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    monkeypatch.delenv("HF_DATASETS_CACHE", raising=False)
    # nobody writes there
    own, foreign = (
        LmmsEval(HubSettings(hf_home=tmp_path / "hf")),
        LmmsEval(HubSettings(hf_home=Path("/proc/self/hf"))),
    )
    run = RunPaths(tmp_path / "run")
    for backend, data, cwd in (
        (own, None, tmp_path / "hf" / "lmms-eval-cwd"),
        (
            foreign,
            str(tmp_path / "mine/easi-eval/datasets"),
            tmp_path / "mine/easi-eval/lmms-eval-cwd",
        ),
    ):
        job = backend.score_job(
            cfg("pretrained=a/b"), ModelChoice("m", "a/b", "qwen2_5_vl", ""), [by_key("blink")], run
        )
        assert (job.env.get("HF_DATASETS_CACHE"), job.cwd) == (data, cwd)
    monkeypatch.setenv("HF_DATASETS_CACHE", "/elsewhere")
    assert (
        "HF_DATASETS_CACHE"
        not in foreign.score_job(
            cfg("pretrained=a/b"), ModelChoice("m", "a/b", "qwen2_5_vl", ""), [by_key("blink")], run
        ).env
    )


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is"),
        ({"HF_DATASETS_OFFLINE": "1"}, "HF_DATASETS_OFFLINE is"),
        ({"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "true"}, "HF_DATASETS_OFFLINE is"),
        ({"HF_DATASETS_OFFLINE": "0"}, ""),
        ({"TRANSFORMERS_OFFLINE": "1"}, "TRANSFORMERS_OFFLINE is"),
        ({"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "1"}, "TRANSFORMERS_OFFLINE is"),
        ({"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}, ""),
        (
            {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "yes"},
            "HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE are",
        ),
        ({}, ""),
    ],
)
def test_each_librarys_own_name_for_offline_is_understood(
    environ: dict[str, str], said: str, tmp_path: Path
) -> None:
    settings = HubSettings.from_env({**environ, "HF_HOME": str(tmp_path)})
    assert settings.offline is bool(said)
    if said:
        names = said.rpartition(" ")[0]
        for asked in (
            lambda: license_of("a/b", settings),
            lambda: match_checkpoint(tmp_path, "a/b", "main", settings),
            lambda: fetch_model_file(settings, "a/b", "config.json"),
        ):
            with pytest.raises(EasiError, match=f"{said} set") as refused:
                asked()
            assert refused.value.hint.startswith(f"unset {names}")


THINKS = "{% if enable_thinking %}<think>{% else %}<think></think>{% endif %}"


@pytest.mark.parametrize(
    ("template", "given", "chosen", "says"),
    [
        ({}, "", None, "without </think> for an empty one"),
        ({"chat_template.jinja": THINKS}, "", None, "without </think> for an empty one"),
        ({"chat_template.jinja": "{{ messages }}"}, "", "False", "enable_thinking=False: "),
        ({"tokenizer_config.json": '{"chat_template": "x"}'}, "", "False", "enable_thinking=False"),
        ({"chat_template.jinja": "x"}, ",enable_thinking=True", "True", ""),
    ],
)
def test_a_type_that_removes_thoughts_is_told_of_a_model_without_them(
    backend: LmmsEval,
    tmp_path: Path,
    template: dict[str, str],
    given: str,
    chosen: str | None,
    says: str,
) -> None:
    folder = tmp_path / "Model-9"
    folder.mkdir()
    for name, text in {"config.json": '{"model_type": "qwen3_5"}', **template}.items():
        (folder / name).write_text(text)
    asked = replace(cfg(f"pretrained={folder}{given}"), model="qwen3_5")
    model = backend.resolve(asked)
    assert model.arguments.get("enable_thinking") == chosen
    notes = [note for note in model.notes if "enable_thinking" in note]
    assert [says in note for note in notes] == [True] * bool(says)
    arguments = identity_fields("lmms-eval", "1", model, asked)["class arguments"]
    assert isinstance(arguments, dict) and arguments.get("enable_thinking") == chosen


def test_a_type_that_removes_no_thoughts_is_told_nothing(backend: LmmsEval) -> None:
    model = backend.resolve(replace(cfg(), model="qwen3_vl"))
    assert "enable_thinking" not in model.arguments
    assert not any("think" in note for note in model.notes)
