"""The command line: parses options into a RunConfig and turns errors into exit codes.

Heavy modules are imported inside functions, so ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import itertools
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from . import __version__
from .config import RULES, RunConfig, SubmissionConfig, program, score_points, threshold
from .core.backend_facts import BACKEND_FACTS
from .core.env_files import load_env_files
from .core.errors import DiskFull, EasiError, ExitCode, Refusals, is_full, worded
from .core.places import REPOSITORY
from .core.server_urls import server_urls
from .core.suggest import nearest

FOLDERS = ("HOME", "HF_HOME", "HF_HUB_CACHE", "LMUData", "XDG_CACHE_HOME", "TMPDIR")
MOST_COMPARED = 26  # runs have letters for names
SHOWS_ONLY = ("--dry-run", "--list", "--status", "--version")

EXAMPLES = """examples:
  a first look at 20 questions per benchmark; the whole run keeps the answers
    PROGRAM --model Qwen/Qwen2.5-VL-7B-Instruct --nproc 8 --limit 20
  lmms-eval
    PROGRAM --backend lmms-eval --model qwen3_vl --nproc 8 \\
      --model-args pretrained=Qwen/Qwen3-VL-8B-Instruct
  a served model
    PROGRAM --model Qwen/Qwen3.5-9B --base-url http://node7:8000/v1

"""
EXIT_CODES = """exit codes:
  0    complete (or --limit done as asked)
  1    some benchmark is incomplete
  2    refused; nothing was started
  3    complete, but not sent
  4    --max-drop cannot be decided
  130  interrupted
"""


class _Parser(argparse.ArgumentParser):
    """An argparse parser that raises EasiError (message and hint) instead of exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise argparse's message as an EasiError."""
        raise EasiError(message.removeprefix("argument "), hint="--help lists the options")


class _NumberOfExtra:
    """The number of optional benchmarks as text; the registry is loaded when help is printed."""

    def __str__(self) -> str:
        from .benchmarks import ALL_KEYS, CORE_KEYS

        return str(len(ALL_KEYS) - len(CORE_KEYS))


def build_parser() -> argparse.ArgumentParser:
    """Build the parser with all options.

    Defaults live in RunConfig: options that were not given are absent from the result.
    """
    parser = _Parser(
        prog=Path(program()[-1]).name,
        usage="%(prog)s --model MODEL [options] [-- BACKEND ARGUMENTS]",
        description="Evaluate a vision-language model on the EASI spatial-intelligence benchmarks, "
        "and submit the result.",
        epilog=EXAMPLES.replace("PROGRAM", shlex.join(program())) + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,  # it stands under "more"
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    _add_guide_options(parser)
    _add_more_options(parser.add_argument_group("more"))
    # Scripts written for EASI's earlier submission script pass these two.
    parser.add_argument("--judge-model", dest="judge", help=argparse.SUPPRESS)
    parser.add_argument(
        "--no-judge", dest="judge", action="store_const", const=RULES, help=argparse.SUPPRESS
    )
    return parser


def _add_guide_options(group: argparse.ArgumentParser) -> None:
    """Add the 15 options of the leaderboard's guide, in its order."""
    add = group.add_argument
    add(
        "--model",
        help="vlmevalkit: Hugging Face model id, folder or registry name; lmms-eval: "
        "model type (qwen3_vl); with --base-url the name of the served model",
    )
    add("--backend", help="vlmevalkit (default) or lmms-eval")
    add(
        "--model-args",
        metavar="K=V,K=V",
        help="model arguments (required for lmms-eval: pretrained=org/model,...)",
    )
    add(
        "--nproc",
        type=whole_number,
        metavar="N",
        help="number of GPUs for data parallelism: one worker per GPU (default: 1)",
    )
    add(
        "--benchmarks",
        metavar="KEYS",
        help="comma-separated (default: all EASI-8; --list shows them); sitebench or site: "
        "both SITE halves",
    )
    add(
        "--include-extra", action="store_true", help="also the %(extra)s optional benchmarks"
    ).extra = _NumberOfExtra()  # type: ignore[attr-defined]  # argparse formats with the action
    add(
        "--judge",
        help="vlmevalkit only: judge model for all answers, or exact_matching for rules only",
    )
    add("--output-dir", metavar="DIR", help="default: ./eval_results")
    add("--dataset-dir", metavar="DIR", help="vlmevalkit only; default: ./datasets")
    add(
        "--submit",
        action="store_true",
        help="send the results to the leaderboard (HF_TOKEN in the environment or .env, "
        "or a login)",
    )
    add(
        "--submission-configs",
        metavar="JSON",
        help="JSON or @FILE: modelName, modelType, precision, revision, weightType, baseModel, "
        "remarks",
    )
    add(
        "--rerun",
        action="store_true",
        help="evaluate all selected benchmarks again, ignoring earlier results",
    )
    add(
        "--no-accelerate",
        action="store_true",
        help="lmms-eval: plain Python, one process that sees all GPUs (useful after out-of-memory)",
    )
    add(
        "--verbose",
        action="store_true",
        help="verbose output of the backend in the log, tracebacks on the screen",
    )
    add("--no-rich", action="store_true", help="plain lines instead of the live view (CI, pipes)")


def _add_more_options(group: argparse._ArgumentGroup) -> None:
    """Add the options that the guide does not have."""
    add = group.add_argument
    add(
        "--limit",
        type=whole_number,
        metavar="N",
        help="only the first N questions of each benchmark; the answers are kept for a whole run",
    )
    add("--dry-run", action="store_true", help="print the plan and start nothing")
    add(
        "--smoke",
        action="store_true",
        help="offline rehearsal on tiny data, with a tiny model unless --model is given",
    )
    add(
        "--status",
        action="store_true",
        help="state of every run in --output-dir: running, finished or dead, and its progress",
    )
    add("--list", action="store_true", help="list the benchmarks and their names in both backends")
    add("-h", "--help", action="help", help="show this help and exit")
    add("--version", action="store_true", help="versions of this program and of the backends")
    add(
        "--base-url",
        metavar="URL,URL",
        help="evaluate a model behind OpenAI-compatible servers (vLLM, SGLang, ...); "
        "key in OPENAI_API_KEY",
    )
    add(
        "--nodes",
        type=whole_number,
        metavar="N",
        help="most machines that share the questions, each with --nproc workers (default: 1)",
    )
    add(
        "--slurm",
        metavar="OPTIONS",
        help="have Slurm start the nodes: options of sbatch, or @ and a batch script that ends in "
        'exec "$@"',
    )
    add(
        "--join",
        metavar="HOST:PORT",
        help="give this machine's GPUs to a run that was started elsewhere with --nodes; only "
        "with --nproc, --device and --dataset-dir",
    )
    add("--device", help="cuda (default), cpu or mps")
    add("--trust-remote-code", action="store_true", help="let the checkpoint's own Python code run")
    add(
        "--vsi-input",
        metavar="FORM",
        help="vlmevalkit, classes with native video: video (default) or frames: "
        "VSI-Bench as 32 images",
    )
    add(
        "--extraction-threshold",
        type=threshold,
        metavar="RATE",
        help="without --judge: share of unparsed answers above which a benchmark is judged, "
        "if a judge is configured (default: 2.5%%)",
    )
    add(
        "--plain",
        action="store_true",
        help="the backend's own launch for each benchmark: same numbers, no shared queue, "
        "no resume within a benchmark",
    )
    add(
        "--no-corrections",
        action="store_true",
        help="lmms-eval: report SPAR-Bench's stock score, in which numeric questions score 0",
    )
    add(
        "--backend-path",
        metavar="DIR",
        help="use a checkout or fork of the backend instead of the installed package",
    )
    add(
        "--resubmit",
        action="store_true",
        help="with --submit: send although the leaderboard may have this run already",
    )
    add(
        "--model-name-differs",
        action="store_true",
        help="confirm that modelName or revision is not what was evaluated; noted in the remarks",
    )
    add(
        "--verify",
        metavar="ZIP",
        help="recompute every score of an easi_results.zip and compare it with the payload; "
        "no model needed",
    )
    add(
        "--compare",
        nargs="+",
        metavar="RUN",
        help="A B [C ...]: compare finished runs question by question, with intervals; run "
        "folders, output folders or easi_results.zip",
    )
    add(
        "--max-drop",
        type=score_points,
        metavar="POINTS",
        help="with --compare A B: exit code 0 if B is at most so many points worse, 1 if it is "
        "more, 4 if that cannot be decided",
    )
    add(
        "--import-results",
        metavar="DIR",
        help="import finished results of VLMEvalKit or lmms-eval: re-verified, copied, "
        "ready to submit",
    )
    add(
        "--as-model",
        metavar="ID",
        help="with --import-results: the model of the results, org/model (default: from the files)",
    )


def parse(argv: Sequence[str]) -> RunConfig:
    """Parse arguments (without the program's name) into a RunConfig.

    Raises:
        EasiError: For every mistake that the arguments alone reveal.
    """
    return _config(_read(argv))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; only ``--help`` exits through SystemExit."""
    argv = list(sys.argv[1:] if argv is None else argv)
    verbose = "--verbose" in argv
    # The rows of a run are a million objects without cycles: looking for these takes a fifth of it.
    gc.set_threshold(20_000)
    # A name that the terminal cannot display must not end the run.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with sigterm_as_interrupt():
            code = int(_main(argv))
            # Flush here, so that a closed pipe raises BrokenPipeError inside this try block.
            sys.stdout.flush()
            return code
    except EasiError as error:
        return _report(error, verbose)
    except KeyboardInterrupt as interrupt:
        # The interruption may come from a closed terminal, which can no longer be written to.
        with contextlib.suppress(OSError):
            print(str(interrupt) or "Interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout at exit and would report the closed pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        # For example ``--dry-run | head``: a reader may stop early, which is not an error.
        if any(option in argv for option in SHOWS_ONLY):
            return ExitCode.COMPLETE
        return _report(
            EasiError(
                "the output was closed by its reader",
                hint="the same command resumes; redirect its output to a file",
                code=ExitCode.INCOMPLETE,
            ),
            verbose,
        )
    except Exception as error:
        if is_full(error):
            found: EasiError = _full(error)
        else:
            found = EasiError(
                f"{worded(error)} (a bug in this program)",
                code=ExitCode.INCOMPLETE,
                hint="the same command with --verbose shows where; please report it",
            )
            found.__cause__ = error
        if any(word.startswith("--compare") for word in argv):
            found.code = ExitCode.REFUSED  # 1 is a decision of --max-drop
        return _report(found, verbose)


def _full(error: BaseException) -> DiskFull:
    """Build the error for a full disk, wherever it occurred."""
    import tempfile

    place = getattr(error, "filename", None)
    full = DiskFull(
        f"the disk is full: {error}"
        if place
        else f"the disk is full: {error} (in {tempfile.gettempdir()}, the output folder or a cache)"
    )
    full.__cause__ = error
    return full


def interrupted(cfg: RunConfig, what: str) -> str:
    """Say in one line what was interrupted, and which command goes on.

    That one lacks ``--rerun``, which starts over every time it is given.
    """
    from .core.redact import Redactor

    command = replace(cfg, rerun=False).command()
    return Redactor.from_environ().line(f"{what or 'Interrupted'}. Resume with: {command}")


def _main(argv: list[str]) -> int:
    _refuse_unreadable(argv)
    options = _read(argv)
    if options.pop("version", False):
        return _print_version()
    if options.pop("list", False):
        return _print_benchmarks()
    if options.pop("status", False):
        return _print_status(options)
    if "verify" in options:
        return _verify(options)
    if "compare" in options or "max_drop" in options:
        return _compare(options)
    if "join" in options:
        return _join(options)
    cfg = _config(options)

    from .run import checks

    checks.check_dependencies(REPOSITORY)
    load_env_files((_here(), REPOSITORY))
    _refuse_unreadable(os.environ.get(name, "") for name in FOLDERS)
    refusals = Refusals(collect=cfg.dry_run and cfg.import_results is None)
    checks.check_setup(cfg, refusals)

    from .run.pipeline import run

    try:
        return run(cfg, refusals)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(interrupted(cfg, str(interrupt))) from None


def _read(argv: Sequence[str]) -> dict[str, Any]:
    """Return the options that were given, by RunConfig's names where those exist.

    Raises:
        EasiError: An option is unknown, or one that may occur once has two values.
    """
    argv = list(argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    if (
        "--slurm" in argv[: cut - 1]
    ):  # argparse would take its value, --partition=gpu, for an option
        at = argv.index("--slurm")
        argv[at : at + 2] = [f"--slurm={argv[at + 1]}"]
        cut -= 1
    parser = build_parser()
    known, unknown = parser.parse_known_args(argv[:cut])
    if unknown:
        raise _unknown(unknown, argv[:cut], parser)
    # Of all other options the last one counts, so that scripts can append theirs.
    for option in ("--model", "--model-args", "--base-url", "--benchmarks"):
        if len(given := _values(option, argv[:cut])) > 1 and len(set(given)) > 1:
            raise EasiError(
                f"{option} is given {len(given)} times",
                hint="start the program once for each model"
                if option == "--model"
                else f"write one, with commas: {option} {','.join(given)}",
            )
    return {**vars(known), "backend_args": tuple(argv[cut + 1 :])}


def _config(options: dict[str, Any]) -> RunConfig:
    given = {
        name: value for name, value in options.items() if name not in ("list", "version", "verify")
    }
    for name in ("output_dir", "dataset_dir", "backend_path", "import_results"):
        if name in given:
            if not given[name].strip():
                raise EasiError(f"--{name.replace('_', '-')} is empty", hint="name a folder")
            # The shell does not expand the ~ in --output-dir=~/x.
            given[name] = Path(given[name]).expanduser()
    if "base_url" in given:
        server_urls(given["base_url"])  # one that is empty, which RunConfig takes for none
    if "submission_configs" in given:
        given["submission"] = SubmissionConfig.from_option(str(given.pop("submission_configs")))
    if "benchmarks" in given:
        from .benchmarks import parse_keys

        given["benchmarks"] = parse_keys(given["benchmarks"], given.pop("include_extra", False))
    return RunConfig(**given)


def _values(option: str, argv: Sequence[str]) -> list[str]:
    following = [after for word, after in itertools.pairwise(argv) if word == option]
    return following + [word.partition("=")[2] for word in argv if word.startswith(f"{option}=")]


def _unknown(
    words: Sequence[str], argv: Sequence[str], parser: argparse.ArgumentParser
) -> EasiError:
    options = [word for word in words if word.startswith("-")]
    if not options:
        return _unexpected(words, argv)
    names = list(dict.fromkeys(word.partition("=")[0] for word in options))
    hints = dict.fromkeys(_option_hint(name, parser) for name in names)
    return EasiError(
        f"unknown option{'s' if len(names) > 1 else ''} {', '.join(names)}", hint="; ".join(hints)
    )


def _unexpected(words: Sequence[str], argv: Sequence[str]) -> EasiError:
    for option in ("--benchmarks", "--model-args"):
        if option in argv[:-1]:
            listed = argv[argv.index(option) + 1 :]
            listed = list(itertools.takewhile(lambda word: not word.startswith("-"), listed))
            if len(listed) > 1 and set(words) == set(listed[1:]):
                return EasiError(
                    f"{option} takes one value",
                    hint=f"write commas instead of spaces: {option} "
                    f"{','.join(word.strip(',') for word in listed)}",
                )
    return EasiError(
        f"unexpected argument {words[0]!r}",
        hint="values with spaces need quotes; arguments for the backend go after a bare --",
    )


def _option_hint(name: str, parser: argparse.ArgumentParser) -> str:
    if name in ("--tasks", "--task", "--data", "--dataset", "--datasets"):
        return f"{name}: benchmarks are chosen with --benchmarks"
    from .run import checks

    if backends := checks.backends_with_option(name):
        return (
            "arguments for the backend go after a bare --: "
            f"... -- {name} (of {' and '.join(backends)})"
        )
    options = [
        option.lstrip("-")
        for action in parser._actions
        for option in action.option_strings
        if action.help != argparse.SUPPRESS
    ]
    found = nearest(name.lstrip("-"), options, n=1)
    return (
        f"did you mean --{found[0]}?"
        if found
        else "--help lists the options; arguments for the backend go after a bare --"
    )


def _refuse_unreadable(words: Iterable[str]) -> None:
    """Raise EasiError for words with bytes that the locale cannot decode.

    Such names can be neither shown nor written to a file.
    """
    for word in words:
        try:
            word.encode("utf-8")
        except UnicodeEncodeError as error:
            shown = word.encode("utf-8", "backslashreplace").decode()
            raise EasiError(
                f"{shown}: bytes that the locale's encoding "
                f"({sys.getfilesystemencoding()}) does not know",
                hint="set LC_ALL=C.UTF-8, or give the file or folder another name",
            ) from error


def _here() -> Path:
    try:
        here = Path.cwd()
    except OSError as error:
        raise EasiError(
            f"the current folder is gone: {error.strerror}", hint="cd to one that exists"
        ) from error
    _refuse_unreadable([str(here)])
    return here


def _report(error: EasiError, verbose: bool) -> int:
    if verbose:
        traceback.print_exception(error)
    print(f"error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
    return int(error.code)


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM inside the block, so both share one clean-up path."""

    def interrupt(signum: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_version() -> int:
    from importlib.metadata import PackageNotFoundError, version

    print(f"easi-eval {__version__} (Python {'.'.join(map(str, sys.version_info[:3]))})")
    for name in (*(kind.distribution for kind in BACKEND_FACTS.values()), "torch", "transformers"):
        try:
            print(f"{name} {version(name)}")
        except PackageNotFoundError:
            print(f"{name} is not installed")
    return ExitCode.COMPLETE


def _refuse_others(
    option: str, options: dict[str, object], taken: Iterable[str], hint: str
) -> None:
    """Raise EasiError if ``option`` is given with others than ``taken`` and those of the display.

    ``taken`` are names in ``options``.
    """
    others = [
        name
        for name, value in options.items()
        if name not in (*taken, "verbose", "no_rich") and (name != "backend_args" or value)
    ]
    if others:
        name = (
            "arguments after --"
            if others[0] == "backend_args"
            else f"--{others[0].replace('_', '-')}"
        )
        raise EasiError(f"{option} cannot be combined with {name}", hint=f"{option} {hint}")


def whole_number(text: str) -> int:
    """Parse the value of an option that counts something."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _print_status(options: dict[str, object]) -> int:
    taken = ["output_dir", "backend", "smoke"]
    _refuse_others("--status", options, taken, "takes --output-dir and --backend alone")

    from .run.smoke import OUTPUT_DIR
    from .run.status import show_status

    usual = OUTPUT_DIR if "smoke" in options else RunConfig.output_dir
    folder = options.get("output_dir", usual)

    print(show_status(Path(str(folder)).expanduser(), str(options.get("backend", "*"))))
    return ExitCode.COMPLETE


def _verify(options: dict[str, object]) -> int:
    _refuse_others("--verify", options, ["verify"], "checks one archive and takes no other option")
    path = Path(str(options["verify"])).expanduser()
    if not path.is_file():
        raise EasiError(f"--verify: {path} is not a file", hint="name an easi_results.zip")

    from .run import checks

    checks.check_dependencies(REPOSITORY)

    from .submission import verify

    return verify.main(path)


def _compare(options: dict[str, Any]) -> int:
    paths = [Path(path).expanduser() for path in options.get("compare", ())]
    if not paths:
        raise EasiError("--max-drop without --compare", hint="--compare A B --max-drop POINTS")
    hint = "reads finished runs and takes no other option than --max-drop"
    _refuse_others("--compare", options, ["compare", "max_drop"], hint)

    if len(paths) < 2:
        hint = "--compare A B; the same one twice is fine"
        raise EasiError("--compare needs two runs or more", hint=hint)
    if len(paths) > MOST_COMPARED:
        raise EasiError(
            f"--compare with {len(paths)} runs", hint=f"at most {MOST_COMPARED} have a letter"
        )
    points = options.get("max_drop")
    if points is not None and len(paths) != 2:
        hint = "it decides about B against A alone"
        raise EasiError(f"--max-drop with {len(paths)} runs", hint=hint)

    from .report import load_run

    for path in paths:  # refused before the packages that compare are imported
        load_run.locate(path)

    from .run import checks

    checks.check_dependencies(REPOSITORY)

    from .report import compare_command

    return compare_command.main(paths, points, _here())


def _join(options: dict[str, Any]) -> int:
    own: dict[str, Any] = {
        name: options.pop(name) for name in ("nproc", "device", "dataset_dir") if name in options
    }
    _refuse_others(
        "--join",
        options,
        ["join"],
        "takes the model and everything else from the run; this machine has only its own --nproc, "
        "--device and --dataset-dir",
    )

    from .run import checks

    checks.check_dependencies(REPOSITORY)
    load_env_files((_here(), REPOSITORY))

    from .run.join import join

    return join(str(options["join"]), own)


def _print_benchmarks() -> int:
    """Print one line per benchmark, in registry order; the optional ones below a heading."""
    from .benchmarks import BENCHMARKS

    lines = [("key", "benchmark", "questions", "chance", "data, GB", *BACKEND_FACTS)]
    for bench in BENCHMARKS:
        sources = [bench.source(name) for name in BACKEND_FACTS]
        questions = max(source.questions or 0 for source in sources)
        chance = "" if bench.chance is None else str(bench.chance)
        tasks = (source.task for source in sources)
        lines.append((bench.name, bench.title, f"{questions:,}", chance, bench.data_gb, *tasks))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    core = sum(bench.core for bench in BENCHMARKS)
    for place, line in enumerate(lines):
        if place == core + 1:
            print("\noptional, with --include-extra:")
        cells = [
            word.rjust(width) if column in (2, 3, 4) else word.ljust(width)
            for column, (word, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    print(
        "\nsitebench or site: both SITE halves. chance: published score of guessing, where known.\n"
        f"data: download for {' / '.join(BACKEND_FACTS)}; ?: not known, --dry-run asks the hub."
    )
    return ExitCode.COMPLETE
