"""What a backend is told to write does not depend on the folder its processes start in."""

from __future__ import annotations

from pathlib import Path

import pytest

from easi_eval.backends import make_backend
from easi_eval.backends.lmms_eval.launcher import absolute_paths
from easi_eval.benchmarks import by_key
from easi_eval.config import RunConfig
from easi_eval.core.model import ModelChoice
from easi_eval.core.run_folder import RunPaths
from easi_eval.data.needs import HubSettings

MODEL = ModelChoice("org/m", "org/m", "EasiVLM", "a test", arguments={})


@pytest.mark.parametrize("backend", ["vlmevalkit", "lmms-eval"])
def test_a_relative_output_folder_is_found_from_where_the_job_starts(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = make_backend(backend, HubSettings(hf_home=tmp_path / "hf"))
    cfg = RunConfig(model="m", model_args="pretrained=org/m", backend=backend)
    paths = RunPaths.of(cfg.output_dir, backend, "org/m", "0" * 64)
    assert not paths.root.is_absolute()
    bench = by_key("blink")
    for job in (
        made.answer_job(cfg, MODEL, [bench], paths, 1),
        made.score_job(cfg, MODEL, [bench], paths),
        made.plain_job(cfg, MODEL, bench, paths.outputs / ".blink.plain", 1),
    ):
        named = [Path(word) for word in job.argv if "eval_results" in word]
        assert named
        assert {(job.cwd or tmp_path) / path for path in named} <= {
            tmp_path / path for path in (paths.root, paths.outputs, paths.outputs / ".blink.plain")
        }


@pytest.mark.parametrize("backend", ["vlmevalkit", "lmms-eval"])
def test_where_the_cache_may_only_be_read_remote_code_is_copied_elsewhere(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    monkeypatch.delenv("HF_MODULES_CACHE", raising=False)
    cfg = RunConfig(model="m", model_args="pretrained=org/m", backend=backend)
    bench, paths = by_key("blink"), RunPaths(tmp_path / "run")

    def places(hf_home: Path) -> set[str | None]:
        made = make_backend(backend, HubSettings(hf_home=hf_home))
        jobs = (
            made.answer_job(cfg, MODEL, [bench], paths, 1),
            made.score_job(cfg, MODEL, [bench], paths),
            made.plain_job(cfg, MODEL, bench, paths.outputs, 1),
        )
        return {job.env.get("HF_MODULES_CACHE") for job in jobs}

    foreign = Path("/proc/self/hf")  # nobody writes there
    assert places(tmp_path / "hf") == {None}
    assert places(foreign) == {str(tmp_path / "mine/easi-eval/modules")}
    monkeypatch.setenv("HF_MODULES_CACHE", "/elsewhere")
    assert places(foreign) == {None}


def test_paths_among_the_backends_arguments_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = make_backend("lmms-eval", HubSettings(hf_home=tmp_path / "hf"))
    cfg = RunConfig(
        model="m",
        model_args="pretrained=org/m",
        backend="lmms-eval",
        backend_args=("--include_path", "tasks", "--batch_size", "2"),
    )
    argv = made.score_job(
        cfg, MODEL, [by_key("blink")], RunPaths.of(cfg.output_dir, "lmms-eval", "org/m", "0" * 64)
    ).argv
    assert argv[argv.index("--include_path") + 1] == str(tmp_path / "tasks")
    assert argv[argv.index("--include_path") + 2 :][:2] == ("--batch_size", "2")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--at", "a/b", "--at=c", "--other", "a/b", "d"],
            ["--at", "{here}/a/b", "--at={here}/c", "--other", "a/b", "d"],
        ),
        (["--at", "/a", "x=--at", "y", "--at"], ["--at", "/a", "x=--at", "y", "--at"]),
        ([], []),
    ],
)
def test_only_the_values_of_path_options_are_made_absolute(
    words: list[str],
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_paths(words, {"--at"}) == [word.format(here=tmp_path) for word in expected]


def test_the_hubs_folders_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hub = HubSettings.from_env({"HF_HOME": "cache/hf", "HF_HUB_CACHE": "hub", "LMUData": "lmu"})
    assert (hub.hf_home, hub.cache, hub.search[0]) == (
        tmp_path / "cache" / "hf",
        tmp_path / "hub",
        tmp_path / "lmu",
    )
