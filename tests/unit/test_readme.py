"""README and guides against the program.

What they list exists, and the launches they tell people to type are understood.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from docs import (
    DOCS,
    GUIDES,
    READMES,
    REFERENCE,
    REPOSITORY,
    RESULTS,
    commands,
    fenced,
    launches,
    text,
)
from easi_eval import cli
from easi_eval.benchmarks import BENCHMARKS, by_key
from easi_eval.config import REQUIRED_FIELDS, SubmissionConfig
from easi_eval.core.backend_facts import BACKEND_FACTS
from easi_eval.core.errors import ExitCode
from easi_eval.core.run_folder import RunPaths
from easi_eval.scores import table
from easi_eval.scores.score_table import State
from guide import BLOCKS, GUIDE_OPTIONS


def section(title: str, name: str = "README.md") -> str:
    """Its text up to the next heading; a # inside a fenced block is a comment of the shell."""
    pieces = re.split(
        r"^(#{1,6} [^\n]*)$|(^```.*?^```$)", text(name), flags=re.MULTILINE | re.DOTALL
    )
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


# ---- options, exit codes, variables --------------------------------------------------------------


def test_the_readme_is_read_in_one_go() -> None:
    assert len(text().splitlines()) <= 250


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_opens_with_its_purpose_and_an_example(name: str) -> None:
    title, purpose, *_ = re.split(r"\n\n+", text(name))
    assert title.startswith("# ") and not purpose.startswith(("#", "|", "```"))
    first_heading = text(name).find("\n## ")
    assert 0 < text(name).find("\n```bash\n") < (first_heading if first_heading > 0 else 10**9)


def test_every_guide_is_named_in_the_readme() -> None:
    assert set(GUIDES) <= set(re.findall(r"\]\(([^)#]+)", text()))


def test_the_options_are_those_of_the_parser() -> None:
    rows = one_table(section("Options", REFERENCE), "option")
    told = [option for row in rows for option in quoted(row[0])]
    shown = [
        name
        for name, action in cli.build_parser()._option_string_actions.items()
        if action.help != argparse.SUPPRESS
    ]
    assert sorted(told) == sorted([*shown, "--"])


def test_whose_an_option_is() -> None:
    rows = one_table(section("Options", REFERENCE), "option")
    assert {quoted(row[0])[0] for row in rows if row[1] == "guide"} == set(GUIDE_OPTIONS)
    in_readme = [quoted(row[0])[0] for row in one_table(section("Options"), "option")]
    assert sorted(in_readme) == sorted(GUIDE_OPTIONS)
    assert all(row[1] in ("guide", "ours") for row in rows)


def test_the_exit_codes_are_the_programs() -> None:
    told = [int(row[0]) for row in one_table(section("Exit codes", REFERENCE), "code")]
    assert told == [int(code) for code in ExitCode]
    assert told == [int(code) for code in re.findall(r"^  (\d+) ", cli.EXIT_CODES, re.MULTILINE)]


def test_every_variable_of_the_example_is_explained() -> None:
    example = text(".env.example")
    names = {
        *re.findall(r"^#? ?([A-Za-z_]+)=", example, re.MULTILINE),
        *re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)+\b", example),
    }
    assert {"HF_TOKEN", "LMUData", "EASI_DISPATCHER", "TRANSFORMERS_OFFLINE"} <= names
    assert names <= set(quoted(section("Environment variables", REFERENCE)))


def test_the_submission_fields_are_those_that_are_read() -> None:
    rows = one_table(section("Submit"), "field")
    assert [quoted(row[0])[0] for row in rows] == list(SubmissionConfig.__dataclass_fields__)
    assert tuple(quoted(row[0])[0] for row in rows if row[1] == "yes") == REQUIRED_FIELDS


# ---- benchmarks, score table, places -------------------------------------------------------------


def test_the_benchmarks_are_those_of_the_registry() -> None:
    rows = one_table(section("Benchmarks"), "key")
    assert [[quoted(row[0])[0], *row[1:]] for row in rows] == [
        [
            bench.name,
            bench.title,
            f"{bench.source('vlmevalkit').questions:,}",
            "" if bench.chance is None else str(bench.chance),
            bench.data_gb,
            *(bench.source(name).task for name in BACKEND_FACTS),
        ]
        for bench in BENCHMARKS
    ]
    core = [bench.key for bench in BENCHMARKS if bench.core]
    assert [quoted(row[0])[0] for row in rows[: len(core)]] == core
    asked = sum(by_key(key).source("vlmevalkit").questions or 0 for key in core)
    assert f"{asked:,} questions" in section("Evaluate")


def test_the_columns_and_states_are_those_of_the_score_table() -> None:
    rows = one_table(section("Columns of the score table", RESULTS), "column")
    assert tuple(name for row in rows for name in quoted(row[0])) == (*table.ALL_COLUMNS,)
    states = one_table(section("Columns of the score table", RESULTS), "state")
    assert [quoted(row[0])[0] for row in states] == [str(state) for state in State]


def test_the_places_of_a_run_are_those_it_uses() -> None:
    (tree,) = fenced(section("Files", RESULTS), "text")
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


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", READMES)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", text(name)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (REPOSITORY / name).parent / path if path else REPOSITORY / name
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


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


SHOWS = {"--compare", "--help", "--join", "--list", "--status", "--verify", "--version"}

# ---- what people are told to type ----------------------------------------------------------------


def told() -> list[list[str]]:
    return [
        argv for name in READMES for block in fenced(text(name), "bash") for argv in launches(block)
    ]


@pytest.mark.parametrize("argv", [*told(), *launches("".join(BLOCKS.values()))], ids=" ".join)
def test_a_launch_that_people_are_told_is_understood(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if SHOWS & set(argv):  # no evaluation, so there is no RunConfig
        words = [action for action in cli.build_parser()._option_string_actions if action in argv]
        assert sorted(words) == sorted(word for word in argv if word.startswith("-"))
        return
    fields = {"modelName": "org/model", "modelType": "instruction", "precision": "bfloat16"}
    (tmp_path / "meta.json").write_text(json.dumps(fields), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    cfg = cli.parse(argv)
    assert cli.parse(cfg.to_argv()) == cfg


def test_launches_are_found() -> None:
    assert len(told()) >= 9
    assert len(launches("".join(BLOCKS.values()))) == 9


@pytest.mark.parametrize(
    ("name", "block"), [("VLMEvalKit/README.md", 7), ("lmms-eval/README.md", 8)]
)
def test_a_backends_readme_has_the_guides_line_for_the_backend_itself(
    name: str, block: int
) -> None:
    *_, line = commands(BLOCKS[block])
    assert line in [words for each in fenced(text(name), "bash") for words in commands(each)]


@pytest.mark.parametrize("option", ["--vllm", "--test", "--no-flash-attn", "--check", "--quiet"])
def test_the_set_up_knows_the_options_it_is_said_to_have(option: str) -> None:
    assert f'"{option}"' in (REPOSITORY / "scripts/setup/__main__.py").read_text(encoding="utf-8")
    assert f"`{option}`" in text("scripts/setup/README.md")


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
        for rows in tables(text(f"{DOCS}/troubleshooting.md"))
        for row in rows[1:]
        for message in quoted(row[0])
    ]
    assert len(messages) > 20
    for message in messages:
        for piece in filter(None, (piece.strip(" :=,") for piece in VALUES.split(message))):
            assert piece in sources, f"{piece!r} of {message!r}"
