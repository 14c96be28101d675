"""The command line as a user meets it.

What parses, what is refused and how, and that a refusal needs no heavy import.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from easi_eval import cli
from easi_eval.benchmarks import ALL_KEYS, CORE_KEYS, parse_keys
from easi_eval.config import RunConfig, SubmissionConfig
from easi_eval.core.errors import EasiError
from guide import GUIDE_OPTIONS

SCRIPT = Path(cli.__file__).parents[1] / "run_easi_eval.py"
META = (
    '{"modelName": "Qwen/Qwen3-VL-8B-Instruct", "modelType": "instruction", "precision": '
    '"bfloat16", "baseModel": "Qwen3"}'
)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (
            ["--model", "Qwen/Qwen2.5-VL-7B-Instruct", "--nproc", "8"],
            RunConfig(model="Qwen/Qwen2.5-VL-7B-Instruct", nproc=8),
        ),
        (
            ["--model", "m", "--nodes", "4", "--slurm", "--partition=gpu", "--", "--use-vllm"],
            RunConfig(model="m", nodes=4, slurm="--partition=gpu", backend_args=("--use-vllm",)),
        ),
        (
            [
                "--backend",
                "lmms-eval",
                "--model",
                "qwen3_vl",
                "--model-args",
                "pretrained=Qwen/Qwen3-VL-8B-Instruct",
                "--nproc",
                "4",
                "--submit",
                "--submission-configs",
                META,
            ],
            RunConfig(
                backend="lmms-eval",
                model="qwen3_vl",
                model_args="pretrained=Qwen/Qwen3-VL-8B-Instruct",
                nproc=4,
                submit=True,
                submission=SubmissionConfig(
                    "Qwen/Qwen3-VL-8B-Instruct", "instruction", "bfloat16", baseModel="Qwen3"
                ),
            ),
        ),
        (
            ["--model", "m", "--benchmarks", "vsi_bench,blink,sitebench"],
            RunConfig(model="m", benchmarks=("vsi_bench", "site_image", "site_video", "blink")),
        ),
        (
            ["--model=m", "--benchmarks", " Blink, VSI_bench, "],
            RunConfig(model="m", benchmarks=("vsi_bench", "blink")),
        ),
        (
            ["--model", "m", "--include-extra", "--judge", "exact_matching"],
            RunConfig(model="m", include_extra=True, judge="exact_matching"),
        ),
        (
            ["--model", "m", "--benchmarks", "blink", "--include-extra"],
            RunConfig(
                model="m",
                benchmarks=("blink", *(key for key in ALL_KEYS if key not in CORE_KEYS)),
            ),
        ),
        (
            ["--smoke", "--limit", "2", "--dry-run", "--no-rich"],
            RunConfig(smoke=True, limit=2, dry_run=True, no_rich=True),
        ),
        (
            ["--smoke", "--", "--nprocc", "8", "--", "-x"],
            RunConfig(smoke=True, backend_args=("--nprocc", "8", "--", "-x")),
        ),
        (
            ["--smoke", "--output-dir", "a", "--output-dir", "b"],
            RunConfig(smoke=True, output_dir=Path("b")),
        ),
        # of this command's ancestor
        (["--smoke", "--no-judge"], RunConfig(smoke=True, judge="exact_matching")),
        (["--smoke", "--judge-model", "gpt-4o-1120"], RunConfig(smoke=True, judge="gpt-4o-1120")),
        (["--model", "m", "--model", "m"], RunConfig(model="m")),
        (["--model", "https://huggingface.co/org/model"], RunConfig(model="org/model")),
        (
            ["--model", "https://huggingface.co/org/model/tree/main?a=b"],
            RunConfig(model="org/model"),
        ),
        (
            [
                "--backend",
                "lmms-eval",
                "--model",
                "qwen3_vl",
                "--model-args",
                "pretrained=https://huggingface.co/org/model/,base_url=http://h/v1",
            ],
            RunConfig(
                backend="lmms-eval",
                model="qwen3_vl",
                model_args="pretrained=org/model,base_url=http://h/v1",
            ),
        ),
        (["--smoke", "--output-dir=~/x"], RunConfig(smoke=True, output_dir=Path.home() / "x")),
    ],
)
def test_parses(argv: list[str], expected: RunConfig) -> None:
    assert cli.parse(argv) == expected


@pytest.mark.parametrize(
    ("argv", "what", "hint"),
    [
        (["--nprocc", "8"], "unknown option --nprocc", "did you mean --nproc?"),
        (["--nprocc=8"], "unknown option --nprocc", "did you mean --nproc?"),
        (["--model-arg", "a=b"], "unknown option --model-arg", "did you mean --model-args?"),
        (["--bench", "blink"], "unknown option --bench", "--benchmarks"),  # no abbreviations
        (["--verb"], "unknown option --verb", "--verbose"),
        (
            ["--submission_configs", "{}"],
            "unknown option --submission_configs",
            "did you mean --submission-configs?",
        ),
        (["-model", "m"], "unknown option -model", "did you mean --model?"),
        (["--batch_size", "4"], "unknown option --batch_size", "bare --"),
        (["--smoke", "stray"], "unexpected argument 'stray'", "quotes"),
        (["--model"], "--model: expected one argument", "--help"),
        (["--model", "m", "--nproc", "two"], "--nproc: 'two' is not a whole number", "--help"),
        (["--model", "m", "--output-dir", ""], "--output-dir is empty", "folder"),
        (["--model", "m", "--benchmarks", " , "], "names no benchmark", ""),
        (["--model", "m", "--benchmarks", "blnk"], "unknown benchmark blnk", "did you mean blink?"),
        (
            ["--model", "m", "--submission-configs", "{"],
            "--submission-configs is not JSON",
            "single quotes",
        ),
        (
            ["--model", "m", "--submission-configs", "meta.json"],
            "--submission-configs is not JSON",
            "--submission-configs @meta.json",
        ),
        (
            ["--model", "m", "--submission-configs", META.replace("}", ",}")],
            "--submission-configs is not JSON",
            "remove the comma before the closing }",
        ),
        (
            ["--model", "m", "--benchmarks", "blnk,vsi_bnch,mmsi_bench"],
            "unknown benchmarks blnk, vsi_bnch",
            "did you mean blink,vsi_bench?",
        ),
        (
            ["--model", "m", "--benchmarks", "all"],
            "unknown benchmark all",
            f"--include-extra for all {len(ALL_KEYS)}",
        ),
        (
            ["--model", "m", "--benchmarks", "blink", "embspatial", "--nproc", "2"],
            "--benchmarks takes one value",
            "--benchmarks blink,embspatial",
        ),
        (
            ["--model", "m", "--benchmarks", "blink,", "embspatial"],
            "--benchmarks takes one value",
            "--benchmarks blink,embspatial",
        ),
        (["--model", "a", "--model", "b"], "--model is given 2 times", "once for each model"),
        (
            ["--model", "a", "--benchmarks", "blink", "--benchmarks=site"],
            "--benchmarks is given 2 times",
            "--benchmarks blink,site",
        ),
        (["--tasks", "blink"], "unknown option --tasks", "--benchmarks"),
        (["--data", "BLINK"], "unknown option --data", "--benchmarks"),
        (
            ["--gen_kwargs", "max_new_tokens=8"],
            "unknown option --gen_kwargs",
            "-- --gen_kwargs (of lmms-eval)",
        ),
        (["--judge-args", "{}"], "unknown option --judge-args", "-- --judge-args (of vlmevalkit)"),
        (
            ["--modle", "m", "--nprocc", "2"],
            "unknown options --modle, --nprocc",
            "did you mean --model?; did you mean --nproc?",
        ),
    ],
)
def test_refused(argv: list[str], what: str, hint: str) -> None:
    with pytest.raises(EasiError) as error:
        cli.parse(argv)
    assert what in error.value.message
    assert hint in error.value.hint


def test_errors_are_two_lines_on_stderr_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--model", "m", "--nproc", "0"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: --nproc is 0\nhint: use 1 or more\n"


def test_traceback_only_with_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--verbose", "--model", "m", "--nproc", "0"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.endswith("error: --nproc is 0\nhint: use 1 or more\n")


def test_list_names_every_benchmark_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list"]) == 0
    core, optional, _ = capsys.readouterr().out.split("\n\n")
    rows = [line.split() for line in (*core.splitlines()[1:], *optional.splitlines()[1:])]
    tasks = ["VSI-Bench_32frame", "vsibench_multiimage"]
    assert rows[0] == ["vsi_bench", "VSI-Bench", "5,130", "34.0", "5.7", "/", "5.7", *tasks]
    assert tuple(key for row in rows for key in parse_keys(row[0])) == ALL_KEYS
    assert all(shlex.quote(row[0]) == row[0] for row in rows)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("easi-eval ")


def test_help_names_every_option_and_needs_the_standard_library_only() -> None:
    ran = subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    for name, action in cli.build_parser()._option_string_actions.items():
        assert (name in ran.stdout) is (action.help != argparse.SUPPRESS), name
    assert ran.stdout.startswith("usage: run_easi_eval.py --model MODEL")
    examples = ran.stdout.split("examples:")[1].split("exit codes:")[0].replace("\\\n", " ")
    started = [shlex.split(line) for line in examples.splitlines() if "--model" in line]
    assert len(started) == 3
    for words in started:
        assert cli.parse(words[words.index(str(SCRIPT)) + 1 :]).model


def test_help_begins_with_the_options_of_the_guide_in_its_order() -> None:
    shown = re.findall(r"^  (--[a-z-]+)", cli.build_parser().format_help(), re.MULTILINE)
    assert tuple(shown[:15]) == GUIDE_OPTIONS


def test_without_dependencies_it_names_the_setup_script(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), "--model", "m"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert ran.returncode == 2
    assert "error: this Python lacks rich, " in ran.stderr
    assert "run: bash scripts/setup.sh" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_old_interpreter_is_told_where_to_get_another() -> None:
    code = (
        f"import runpy, sys; sys.version_info = (3, 8, 10); runpy.run_path({str(SCRIPT)!r}, "
        "run_name='__main__')"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith(
        "error: this is Python 3.8, and 3.11 or newer is needed\nhint: run: bash scripts/setup.sh"
    )


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["--version"],
        ["--list"],
        ["--nprocc"],
        ["--model", "m", "--benchmarks", "x"],
        ["--model", "qwen3_vl", "--backend", "lmms-eval"],
        ["--model", "m", "--submission-configs", "{}"],
    ],
)
def test_nothing_heavy_is_imported(argv: list[str]) -> None:
    heavy = (
        "torch",
        "pandas",
        "numpy",
        "rich",
        "huggingface_hub",
        "vlmeval",
        "lmms_eval",
        "transformers",
        "datasets",
        "openpyxl",
    )
    code = (
        "import sys; from easi_eval import cli\n"
        f"try: cli.main({argv!r})\nexcept SystemExit: pass\n"
        f"print('imported:', *(name for name in {heavy!r} if name in sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines()[-1] == "imported:", ran.stderr


def test_the_parser_loads_no_registry() -> None:
    code = (
        "import sys; from easi_eval import cli; cli.build_parser(); print({'tomllib', "
        "'importlib.metadata'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout == "set()\n", ran.stderr


def test_env_files_fill_in_what_is_not_set(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, text in (
        (here, "EASI_T_A=here\nEASI_T_B='two words'\n"),
        (there, "\ufeffEASI_T_A=there\nEASI_T_C=c\nEASI_T_D=file\n"),
    ):
        folder.mkdir()
        (folder / ".env").write_text(text, encoding="utf-8")
    code = (
        f"import os; from pathlib import Path; from easi_eval.cli import load_env_files\n"
        f"load_env_files((Path({str(here)!r}), Path({str(there)!r}), Path('/nowhere')))\n"
        "print('|'.join(os.environ['EASI_T_' + x] for x in 'ABCD'))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "EASI_T_D": "set"},
        check=False,
    )
    assert ran.stdout == "here|two words|c|set\n", ran.stderr


def test_an_unreadable_env_file_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"# mine\nHF_TOKEN=\xff\xfe\n")
    with pytest.raises(EasiError, match=r"\.env, line 2, is not UTF-8"):
        cli.load_env_files([tmp_path])


@pytest.mark.parametrize("broken", ["HF_TOKEN 'hf_secret", "HF_TOKEN='hf_secret", "=hf_secret"])
def test_a_broken_line_of_an_env_file_is_named_without_its_text(
    tmp_path: Path, broken: str
) -> None:
    (tmp_path / ".env").write_text(f"A=1\n\n{broken}\nB=2\n", encoding="utf-8")
    with pytest.raises(EasiError, match=r"\.env, line 3, is no NAME=value") as refused:
        cli.load_env_files([tmp_path])
    assert "secret" not in refused.value.message + refused.value.hint


@pytest.mark.parametrize(
    ("argv", "resume"),
    [
        (["--model", "m"], ["--model", "m"]),
        (["--model", "m", "--rerun", "--", "--x"], ["--model", "m", "--", "--x"]),
        (["--model", "m", "--output-dir", "a b;c"], ["--model", "m", "--output-dir", "a b;c"]),
        (["--model", "m", "--", "--rerun"], ["--model", "m", "--", "--rerun"]),
    ],
)
def test_an_interrupt_ends_with_the_command_that_goes_on(
    argv: list[str], resume: list[str]
) -> None:
    (line,) = cli.interrupted(cli.parse(argv), "Interrupted; 7 answers kept").splitlines()
    said, _, command = line.partition(" Resume with: ")
    assert said == "Interrupted; 7 answers kept."
    words = shlex.split(command)
    assert words[words.index("--model") :] == resume
    assert cli.interrupted(cli.parse(argv), "") == f"Interrupted. Resume with: {command}"


def test_the_command_that_goes_on_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-secret-of-the-user")
    cfg = cli.parse(["--model", "m", "--output-dir", "here/a-secret-of-the-user"])
    assert "a-secret" not in cli.interrupted(cfg, "")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), "--list"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_sigterm_takes_the_ctrl_c_path() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), cli.sigterm_as_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_no_bug_wherever_it_is_met(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def full(argv: object) -> int:
        raise OSError(number, os.strerror(number), "/somewhere/file")

    monkeypatch.setattr(cli, "_main", full)
    assert cli.main(["--smoke"]) == 1
    said = capsys.readouterr().err
    assert (
        "bug" not in said
        and "/somewhere/file" in said
        and "free some space" in said
        and "kept" in said
    )


@pytest.mark.parametrize(
    "argv", [["--model", "/data/m\udce9"], ["--smoke", "--output-dir", "/data/\udcff"]]
)
def test_a_name_that_the_locale_cannot_read_is_refused(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    said = capsys.readouterr().err
    assert "\\udc" in said and "locale" in said and "LC_ALL" in said and "bug" not in said


def test_a_folder_that_is_gone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert cli.main(["--smoke", "--output-dir", str(tmp_path)]) == 2
    assert "the current folder is gone" in capsys.readouterr().err


def test_letters_that_the_terminal_cannot_show_end_nothing() -> None:
    program = (
        "from easi_eval import cli; cli._print_benchmarks = lambda: print('\\u6570') or 0; "
        "sys.exit(cli.main(['--list']))"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, sys.argv[1]); {program}",
            str(SCRIPT.parent),
        ],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
