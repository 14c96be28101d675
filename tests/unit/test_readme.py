"""The README against the program.

What it lists exists, and what it tells people to type is understood.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from easi_eval import cli
from easi_eval.benchmarks import BENCHMARKS
from easi_eval.config import REQUIRED_FIELDS, SubmissionConfig
from easi_eval.core.backend_facts import BACKEND_FACTS
from easi_eval.core.errors import ExitCode
from easi_eval.core.run_folder import RunPaths
from easi_eval.scores import table
from easi_eval.scores.score_table import State

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = "python scripts/submissions/run_easi_eval.py"
READMES = (
    "README.md",
    "VLMEvalKit/README.md",
    "lmms-eval/README.md",
    "tests/README.md",
    "scripts/submissions/easi_eval/README.md",
    "scripts/docs/models.md",
)
# What the guide of the leaderboard has people type, with line breaks as there.
GUIDE = """
python scripts/submissions/run_easi_eval.py \\
  --model Qwen/Qwen2.5-VL-7B-Instruct \\
  --nproc 8
python scripts/submissions/run_easi_eval.py \\
  --model Qwen/Qwen2.5-VL-7B-Instruct \\
  --nproc 8 \\
  --submit \\
  --submission-configs '{
    "modelName": "Qwen/Qwen2.5-VL-7B-Instruct",
    "modelType": "instruction",
    "precision": "bfloat16",
    "revision": "main",
    "weightType": "Original",
    "baseModel": "",
    "remarks": "Submitted via script"
  }'
python scripts/submissions/run_easi_eval.py \\
  --backend lmms-eval \\
  --model qwen3_vl \\
  --model-args "pretrained=Qwen/Qwen3-VL-8B-Instruct,attn_implementation=flash_attention_2" \\
  --nproc 4
python scripts/submissions/run_easi_eval.py \\
  --backend lmms-eval \\
  --model qwen3_vl \\
  --model-args "pretrained=Qwen/Qwen3-VL-8B-Instruct,attn_implementation=flash_attention_2" \\
  --nproc 4 \\
  --submit \\
  --submission-configs '{
    "modelName": "Qwen/Qwen3-VL-8B-Instruct",
    "modelType": "instruction",
    "precision": "bfloat16",
    "revision": "main",
    "weightType": "Original",
    "baseModel": "Qwen3",
    "remarks": "Submitted via script"
  }'
python scripts/submissions/run_easi_eval.py \\
  --backend lmms-eval \\
  --model qwen3_vl \\
  --model-args "pretrained=Qwen/Qwen3-VL-8B-Instruct,attn_implementation=flash_attention_2" \\
  --no-accelerate
python scripts/submissions/run_easi_eval.py \\
  --model Qwen/Qwen2.5-VL-7B-Instruct \\
  --nproc 8 --rerun
python scripts/submissions/run_easi_eval.py \\
  --model Qwen/Qwen2.5-VL-7B-Instruct \\
  --nproc 4 \\
  --benchmarks vsi_bench,blink,sitebench
python scripts/submissions/run_easi_eval.py \\
  --backend lmms-eval \\
  --model qwen3_vl \\
  --model-args "pretrained=Qwen/Qwen3-VL-8B-Instruct,attn_implementation=flash_attention_2" \\
  --nproc 4 --include-extra
python scripts/submissions/run_easi_eval.py \\
  --model Qwen/Qwen2.5-VL-7B-Instruct \\
  --nproc 8 \\
  --judge exact_matching
"""
GUIDE_OPTIONS = {
    "--model",
    "--backend",
    "--model-args",
    "--nproc",
    "--benchmarks",
    "--include-extra",
    "--judge",
    "--output-dir",
    "--dataset-dir",
    "--submit",
    "--submission-configs",
    "--rerun",
    "--no-accelerate",
    "--verbose",
    "--no-rich",
}


def text(name: str = "README.md") -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def section(title: str) -> str:
    """Its text up to the next heading; a # inside a fenced block is a comment of the shell."""
    pieces = re.split(r"^(#{1,6} [^\n]*)$|(^```.*?^```$)", text(), flags=re.MULTILINE | re.DOTALL)
    found, inside = "", False
    for place, piece in enumerate(pieces):
        if place % 3 == 1 and piece is not None:
            inside = piece.lstrip("# ") == title
        elif inside:
            found += piece or ""
    assert found, f"no section {title}"
    return found


def tables(markdown: str) -> list[list[list[str]]]:
    """Every table as rows of cells, headings first, without the line below them."""
    found = re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE)
    return [
        [
            [cell.strip() for cell in line.strip().strip("|").split("|")]
            for line in block.splitlines()
            if not re.match(r"\|[-:|]+\|$", line)
        ]
        for block in found
    ]


def one_table(markdown: str, first: str) -> list[list[str]]:
    """The rows below the headings of the only table whose first heading is ``first``."""
    (found,) = [rows[1:] for rows in tables(markdown) if rows[0][0] == first]
    return found


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def fenced(markdown: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)


def commands(shell: str) -> Iterator[list[str]]:
    """The words of each command of a script.

    Continued lines and quotes over several lines are joined.
    """
    pending = ""
    for line in shell.replace("\\\n", " ").splitlines():
        pending += line + "\n"
        try:
            words = shlex.split(pending, comments=True)
        except ValueError:  # a quote is still open
            continue
        pending = ""
        if words:
            yield words
    assert not pending, f"a quote is never closed: {pending}"


def launches(shell: str) -> list[list[str]]:
    """The arguments of every launch of the program."""
    return [words[2:] for words in commands(shell) if words[:2] == PROGRAM.split()]


# ---- options, exit codes, variables --------------------------------------------------------------


def test_the_options_are_those_of_the_parser() -> None:
    told = [option for row in one_table(section("Options"), "option") for option in quoted(row[0])]
    shown = [
        name
        for name, action in cli.build_parser()._option_string_actions.items()
        if action.help != argparse.SUPPRESS
    ]
    assert sorted(told) == sorted([*shown, "--"])


def test_whose_an_option_is() -> None:
    rows = one_table(section("Options"), "option")
    assert {quoted(row[0])[0] for row in rows if row[1] == "guide"} == GUIDE_OPTIONS
    assert all(row[1] in ("guide", "ours") for row in rows)


def test_the_exit_codes_are_the_programs() -> None:
    told = [int(row[0]) for row in one_table(section("Exit codes"), "code")]
    assert told == [int(code) for code in ExitCode]
    assert told == [int(code) for code in re.findall(r"^  (\d+) ", cli.EXIT_CODES, re.MULTILINE)]


def test_every_variable_of_the_example_is_explained() -> None:
    example = text(".env.example")
    names = {
        *re.findall(r"^#? ?([A-Za-z_]+)=", example, re.MULTILINE),
        *re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)+\b", example),
    }
    assert {"HF_TOKEN", "LMUData", "EASI_DISPATCHER", "TRANSFORMERS_OFFLINE"} <= names
    assert names <= set(quoted(section("Environment variables")))


def test_the_submission_fields_are_those_that_are_read() -> None:
    rows = one_table(section("Submission"), "field")
    assert [quoted(row[0])[0] for row in rows] == list(SubmissionConfig.__dataclass_fields__)
    assert tuple(quoted(row[0])[0] for row in rows if row[1] == "yes") == REQUIRED_FIELDS


# ---- benchmarks, score table, places -------------------------------------------------------------


def test_the_benchmarks_are_those_of_the_registry() -> None:
    rows = one_table(section("Evaluate a model"), "key")
    assert [[quoted(row[0])[0], *row[1:]] for row in rows] == [
        [
            bench.key,
            bench.title,
            "EASI-8" if bench.core else "optional",
            *(bench.source(name).task for name in BACKEND_FACTS),
        ]
        for bench in BENCHMARKS
    ]


def test_the_columns_and_states_are_those_of_the_score_table() -> None:
    rows = one_table(section("What comes out"), "column")
    assert tuple(name for row in rows for name in quoted(row[0])) == (
        *table.COLUMNS,
        *table.EXTRA_COLUMNS,
    )
    assert [quoted(row[0])[0] for row in one_table(section("What comes out"), "state")] == [
        str(state) for state in State
    ]


def test_the_places_of_a_run_are_those_it_uses() -> None:
    (tree,) = fenced(section("What comes out"), "text")
    paths = RunPaths(Path("root"))
    for path in (paths.manifest, paths.journal, paths.items, paths.work, paths.outputs, paths.lock):
        assert re.search(rf"^ +{re.escape(path.name)}\b", tree, re.MULTILINE), path.name


MAP = "scripts/submissions/easi_eval/README.md"


def rooms() -> set[str]:
    """Return the paths that the second column of the map's table names."""
    rows = re.findall(r"^\| \d \| ([^|]+) \|", text(MAP), re.MULTILINE)
    return {path for cell in rows for path in re.findall(r"`([^`]+)`", cell)}


def test_every_room_of_the_map_exists() -> None:
    package = (REPOSITORY / MAP).parent
    assert "run/" in rooms()
    for path in rooms():
        assert (package / path).exists() or (REPOSITORY / path).is_dir(), path


def test_nothing_at_the_top_of_the_package_is_left_out_of_the_map() -> None:
    there = {
        f"{path.name}{'/' if path.is_dir() else ''}"
        for path in (REPOSITORY / MAP).parent.iterdir()
        if not path.name.startswith(("_", ".", "README"))
    }
    assert there <= rooms()


@pytest.mark.parametrize("name", READMES)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", text(name)):
        path, _, anchor = target.partition("#")
        if path and "://" not in path:
            assert (REPOSITORY / name).parent.joinpath(path).exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", text(name), re.MULTILINE)
            assert anchor in {
                re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings
            }, target


@pytest.mark.parametrize(
    ("name", "folder"),
    [("VLMEvalKit/README.md", "VLMEvalKit"), ("lmms-eval/README.md", "lmms-eval")],
)
def test_the_files_of_a_backends_project_exist(name: str, folder: str) -> None:
    (files,) = fenced_files(name)
    assert files and all((REPOSITORY / folder / file).is_file() for file in files)


def fenced_files(name: str) -> list[list[str]]:
    return [
        [quoted(row[0])[0] for row in rows if quoted(row[0])]
        for rows in tables(text(name))
        if rows[0][0] == ""
    ]


# ---- what people are told to type ----------------------------------------------------------------


def told() -> list[list[str]]:
    return [
        argv for name in READMES for block in fenced(text(name), "bash") for argv in launches(block)
    ]


@pytest.mark.parametrize("argv", [*told(), *launches(GUIDE)], ids=" ".join)
def test_a_launch_that_people_are_told_is_understood(argv: list[str]) -> None:
    # runs nothing, so it has no RunConfig
    if vars(options := cli.build_parser().parse_known_args(argv)[0]).keys() == {"verify"}:
        assert argv == ["--verify", options.verify]
        return
    cfg = cli.parse(argv)
    assert cli.parse(cfg.to_argv()) == cfg


def test_launches_are_found() -> None:
    assert len(told()) >= 9
    assert len(launches(GUIDE)) == 9


@pytest.mark.parametrize("name", READMES)
def test_scripts_that_people_are_told_to_run_exist(name: str) -> None:
    scripts = {
        words[1]
        for block in fenced(text(name), "bash")
        for words in commands(block)
        if words[0] == "bash"
    }
    assert all((REPOSITORY / script).is_file() for script in scripts)


@pytest.mark.parametrize("option", ["--vllm", "--test", "--no-flash-attn", "--check", "--quiet"])
def test_the_set_up_knows_the_options_it_is_said_to_have(option: str) -> None:
    assert f'"{option}"' in (REPOSITORY / "scripts/setup/__main__.py").read_text(encoding="utf-8")
    assert f"`{option}`" in section("Set-up")


# In the messages of the troubleshooting: placeholders for values, and what the system or torch adds
# to a message of the program.
VALUES = re.compile(
    r"\.\.\.|\b\d+\b|^polygon3\b|\brich,|attn_implementation|flash_attn\b|"
    r"CUDA out of memory|No space left on device"
)


def test_the_messages_in_the_troubleshooting_are_the_programs_own() -> None:
    sources = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("scripts", "VLMEvalKit", "lmms-eval")
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        + sorted((REPOSITORY / folder).rglob("*.sh"))
    )
    # texts that a line break of the source cuts in two
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)
    messages = [
        message
        for rows in tables(section("Troubleshooting"))
        for row in rows[1:]
        for message in quoted(row[0])
    ]
    assert len(messages) > 20
    for message in messages:
        for piece in filter(None, (piece.strip(" :=,") for piece in VALUES.split(message))):
            assert piece in sources, f"{piece!r} of {message!r}"
