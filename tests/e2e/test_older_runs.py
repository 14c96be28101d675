"""A run that an older version of the program began is continued without asking anything twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from program import RunFolder, User, run_folder, run_folders

FIRST = Path(__file__).parents[1] / "data" / "first_identity"
ARGUMENTS = ("--smoke", "--no-rich", "--benchmarks", "embspatial")
ANSWERED = 7
pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def half_answered(out: Path) -> RunFolder:
    """The stored run as a kill would have left it after seven answers."""
    shutil.copytree(FIRST, out / "runs" / "vlmevalkit")
    folder = run_folder(out, "vlmevalkit")
    shutil.rmtree(folder.output("embspatial"))
    (folder.root / "answering.done").unlink(missing_ok=True)
    manifest = folder.manifest
    manifest["benchmarks"]["embspatial"]["state"] = ""
    manifest["versions"]["transformers"] = "4.57.3"
    (folder.root / "run_manifest.json").write_text(json.dumps(manifest))
    [journal] = (folder.root / "journal").iterdir()
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    answers = [number for number, line in enumerate(lines) if json.loads(line)["kind"] == "answer"]
    journal.write_text("".join(lines[: answers[ANSWERED - 1] + 1]), encoding="utf-8")
    return folder


def test_a_half_answered_run_is_finished_and_says_under_which_versions(tmp_path: Path) -> None:
    """Answers made under an older patch version of transformers are kept and noted."""
    user, out = User(tmp_path), tmp_path / "out"
    folder = half_answered(out)
    before = folder.texts("embspatial")
    launch = user.run(*ARGUMENTS, "--output-dir", out)
    assert launch.code == 0, launch.said
    assert run_folders(out, "vlmevalkit") == [folder], "no folder of its own"
    assert len(before) == ANSWERED and before.items() <= folder.texts("embspatial").items(), (
        "no answer was made anew"
    )
    assert len(folder.answers) == 18
    state, manifest = folder.manifest["benchmarks"]["embspatial"], folder.manifest
    evidence = json.loads(
        (folder.output("embspatial") / "evidence.json").read_text(encoding="utf-8")
    )
    # for its versions; the rehearsal's questions make it worse
    assert evidence["score"]["comparable"] == "note"
    assert (state["state"], state["evidence"]["comparable"]) == ("complete", "no")
    assert any("transformers 4.57.3, 4.57.6" in note for note in state["evidence"]["notes"])
    assert [started["versions"]["transformers"] for started in manifest["launches"]] == [
        "4.57.3",
        "4.57.6",
    ]
    [made] = manifest["launches"][1]["workers"]
    assert (made["transformers"], made["attention"]) == ("4.57.6", "sdpa")

    again = user.run(*ARGUMENTS, "--output-dir", out)
    assert again.code == 0 and "skipped embspatial: complete, 18 questions" in again.out, again.said

    # the same under another minor version, as the backend's processes would find it
    packages = tmp_path / "packages" / "transformers-5.1.0.dist-info"
    packages.mkdir(parents=True)
    plan = user.run(*ARGUMENTS, "--output-dir", out, "--dry-run", PYTHONPATH=str(packages.parent))
    assert (
        plan.code == 0 and f"folder   {folder.root}\n" not in plan.out and "not run yet" in plan.out
    ), plan.said
    assert "versions differ from the pinned ones: transformers 5.1.0 (pinned 4.57.6)" in plan.out
    assert "transformers (4.57 there, 5.1 here) differ from run 96cb4113" in plan.out
