"""What a backend is told to write does not depend on the folder its processes start in."""

from __future__ import annotations

from pathlib import Path

import pytest
from easi_eval.backends import make_backend
from easi_eval.backends.base import ModelChoice
from easi_eval.benchmarks import by_key
from easi_eval.config import RunConfig
from easi_eval.data.needs import HubSettings
from easi_eval.state import RunPaths

MODEL = ModelChoice("org/m", "org/m", "EasiVLM", "a test", arguments={})


@pytest.mark.parametrize("backend", ["vlmevalkit", "lmms-eval"])
def test_a_relative_output_folder_is_found_from_where_the_job_starts(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = make_backend(backend, HubSettings(hf_home=tmp_path / "hf"))
    cfg = RunConfig(model="m", model_args="pretrained=org/m", backend=backend)
    paths = RunPaths.of(cfg.output_dir, backend, "org/m", "0" * 64)
    assert not paths.root.is_absolute()
    bench = by_key("blink")
    for job in (made.answer_job(cfg, MODEL, [bench], paths, 1), made.score_job(cfg, MODEL, [bench], paths),
                made.plain_job(cfg, MODEL, bench, paths.outputs / ".blink.plain", 1)):
        named = [Path(word) for word in job.argv if "eval_results" in word]
        assert named
        assert {(job.cwd or tmp_path) / path for path in named} <= {tmp_path / path for path in (
            paths.root, paths.outputs, paths.outputs / ".blink.plain")}
