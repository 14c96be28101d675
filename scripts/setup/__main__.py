"""Makes the environments ready (``bash scripts/setup.sh``): uv installs the committed locks.

It runs under any Python from 3.8 on with the standard library only, so it starts processes itself:
the module of easi_eval that manages them is not installed yet.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import flash_build
from environment import (
    PROJECTS,
    State,
    differing,
    includes,
    look,
    origin,
    pins,
    stale_projects,
    version_of,
)
from index_settings import untied
from installer import LOCKS, NO_PYTHON, ROOT, SetupError, Uv, find_python, find_uv, say

NEWER = "profile5"  # an environment inside the environment, and its lock
# A relative path: the environment may be moved.
UNDER = (
    "import os, site, sys; site.addsitedir(os.path.join(sys.prefix, '..', 'lib', "
    "'python%d.%d' % sys.version_info[:2], 'site-packages'))\n"
)
EXTRAS = {"test": "pytest", "vllm": "vllm"}  # lock -> the package that tells whether it is there


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="bash scripts/setup.sh",
        allow_abbrev=False,
        description="Make the environment ready: the orchestrator and both backends. "
        "Run again, it repairs.",
        epilog="Variables: EASI_VENV (where the environment goes, default .venv), EASI_PYTHON "
        "(the Python for a new one; 'download' fetches one). "
        "Index, proxy and certificate settings are those of pip (pip config list).",
    )
    parser.add_argument("--vllm", action="store_true", help="also install vLLM")
    parser.add_argument("--test", action="store_true", help="also install what the tests need")
    parser.add_argument(
        "--no-flash-attn", action="store_true", help="do not try to build flash-attn"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="install nothing; say what is there, which GPUs are seen and what is missing",
    )
    parser.add_argument(
        "--quiet",
        action="store_true",
        help="say nothing if there is nothing to do; leave an environment of another clone alone",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Carry out the command line; errors are printed as two lines.

    Returns:
        The exit code: 2 if the set-up failed, 130 if it was interrupted, with ``--check`` that of
        ``easi_eval.run.doctor``.
    """
    options = parse(argv)
    # Symbolic links are not resolved: the environment is found by the name it was given.
    venv = Path(os.path.abspath(os.environ.get("EASI_VENV") or ROOT / ".venv"))  # noqa: PTH100
    try:
        if options.check:
            return check(venv)
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            raise SetupError(
                "the pinned packages are those of Linux on x86-64; "
                f"this is {platform.system()} on {platform.machine()}",
                "use such a machine (a container will do)",
            )
        set_up(venv, options)
        return 0
    except SetupError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}\nhint: set EASI_VENV to a folder of yours", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again", file=sys.stderr)
        return 130


def check(venv: Path) -> int:
    """Run ``easi_eval.run.doctor`` in the environment and return its exit status.

    Raises:
        SetupError: The environment does not exist or its set-up did not finish.
    """
    if not PROJECTS.keys() <= look(venv).versions.keys():
        state = "is not finished" if venv.is_dir() else "does not exist"
        raise SetupError(f"the environment {venv} {state}", "bash scripts/setup.sh")
    argv = [str(venv / "bin" / "python"), "-s", "-m", "easi_eval.run.doctor"]
    return subprocess.run(argv, env=untied(os.environ), stdin=subprocess.DEVNULL).returncode


def set_up(venv: Path, options: argparse.Namespace) -> None:
    """Bring the environment up to date, with profile 5 in it. Extras of an earlier set-up are kept.

    Raises:
        SetupError: The folder must not be touched, or the set-up failed.
    """
    if options.quiet and (other := other_checkout(venv)):
        state = look(venv)
        wrong = differing(pinned(locks_for(venv, extras(options, state), state)), state)
        wrong += newer_differs(venv)
        if wrong or code(other) != code(ROOT):
            raise SetupError(
                f"{venv} belongs to {other} and differs: {listed(wrong) or 'another code'}",
                "bash scripts/setup.sh takes it over; without EASI_VENV this clone makes its own",
            )
        return
    refuse_what_does_not_fit(venv)
    with only_one(venv), tempfile.TemporaryDirectory(prefix="easi-setup-") as scratch:
        began = time.monotonic()
        state = look(venv)
        new = state.includes is None
        more = extras(options, state)
        wrong = differing(pinned(locks_for(venv, more, state)), state)
        wrong += [f"{name} lacks files" for name in sorted(PROJECTS.keys() & state.damaged)]
        wrong += [*stale_projects(venv, ROOT), *newer_differs(venv)]
        changes = new or bool(wrong)
        if changes:
            say(f"setting up {venv}: {'there is none that works' if new else listed(wrong)}")
        uv = find_uv(venv, state, Path(scratch)) if changes else Uv.of(venv)
        if new:
            make(uv, venv, wanted=12 if "vllm" in more else 9)
            state = look(venv)
        if changes:
            install(uv, venv, locks_for(venv, more, state), state)
            install_newer(uv, venv)
        if changes or not options.quiet:
            say(try_flash_attn(uv, venv, options))
            took = f"in {time.monotonic() - began:.0f} s" if changes else "(nothing to do)"
            say(f"ready: {venv} {took}; use it with: source {shlex.quote(f'{venv}/bin/activate')}")


def install(uv: Uv, venv: Path, locks: Sequence[str], state: State) -> None:
    """Install the locks and our projects."""
    # First the tools that build source distributions.
    for part in (locks[:1], locks[1:]):
        install_locks(uv, venv, part, state)
    uv.install(venv, *(word for folder in PROJECTS.values() for word in ("-e", str(ROOT / folder))))
    if "compiled" not in locks:
        lacking = "no Python headers here" if compiler() else "no C compiler here"
        say(f"note: polygon3 was left out: {lacking} (only VLMEvalKit's OCR benchmarks use it)")


def install_newer(uv: Uv, venv: Path) -> None:
    """Make or mend profile 5: its own packages first on the path, the base's after them."""
    newer = venv / NEWER
    state = look(newer)
    if state.includes is None:
        python = str(venv / "bin" / "python")
        uv.run("venv", "--quiet", "--clear", "--relocatable", "--python", python, str(newer))
    (site,) = newer.glob("lib/python3.*/site-packages")
    (site / "base.pth").write_text(UNDER, "utf-8")
    install_locks(uv, newer, [NEWER], state)


def install_locks(uv: Uv, venv: Path, locks: Sequence[str], state: State) -> None:
    """Install the packages of locks, and those again that lack files."""
    again = [f"--reinstall-package={name}" for name in sorted(state.damaged)]
    files = [word for name in locks for word in ("-r", str(LOCKS / f"{name}.lock"))]
    # Without compiled files the import of a backend takes three times as long.
    uv.install(venv, "--require-hashes", "--compile-bytecode", *again, *files)


def newer_differs(venv: Path) -> list[str]:
    """Return a text for each package of profile 5 that is not there as pinned."""
    state = look(venv / NEWER)
    if state.includes is None:
        return [f"{NEWER} is missing"]
    return [f"{NEWER}: {text}" for text in differing(pinned([NEWER]), state)]


def other_checkout(venv: Path) -> Path | None:
    """Return the other checkout that the environment was made for, if it is still there."""
    owner = origin(venv, "easi-eval")
    return None if venv == ROOT / ".venv" or owner == ROOT else owner


def code(checkout: Path) -> dict[str, bytes]:
    """Return the programs that an environment runs from its checkout."""
    folders = (checkout / each for each in ("scripts/submissions", *list(PROJECTS.values())[1:]))
    files = (file for folder in folders for file in folder.rglob("easi_*/**/*.py"))
    return {str(file.relative_to(checkout)): file.read_bytes() for file in files}


def extras(options: argparse.Namespace, state: State) -> list[str]:
    """Return the extras that are asked for or were before."""
    there = {*state.versions, *state.damaged}
    return [name for name, told in EXTRAS.items() if getattr(options, name) or told in there]


def locks_for(venv: Path, more: Sequence[str], state: State) -> list[str]:
    """Return the names of the locks to install: the build tools, the base, and the extras.

    Raises:
        SetupError: vLLM is among them and its lock is not for this Python.
    """
    if "vllm" in more and state.includes and not (venv / "lib" / "python3.11").is_dir():
        raise SetupError(
            f"vLLM is pinned for Python 3.11, and {venv} has another one",
            "remove it, then EASI_PYTHON=/path/to/python3.11 bash scripts/setup.sh --vllm",
        )
    compiles = state.includes and (state.includes / "Python.h").is_file() and compiler()
    return ["bootstrap", "base", *(["compiled"] if compiles else []), *more]


def compiler() -> str | None:
    """Return the C compiler here, if any."""
    return shutil.which("cc") or shutil.which("gcc")


def pinned(locks: Sequence[str]) -> dict[str, str]:
    """Return the version by name over some locks."""
    return {name: pin for lock in locks for name, pin in pins(LOCKS / f"{lock}.lock").items()}


def listed(texts: Sequence[str]) -> str:
    """Return the first few texts in one line."""
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")


def refuse_what_does_not_fit(venv: Path) -> None:
    """Raise if EASI_PYTHON is no Python that fits, or the folder holds something else.

    Only the default folder may be emptied.
    """
    asked = os.environ.get("EASI_PYTHON")
    if asked not in (None, "", "download") and not includes(Path(shutil.which(asked) or asked)):
        raise SetupError(f"EASI_PYTHON={asked} is not a working Python 3.11 or 3.12", NO_PYTHON)
    if venv.exists() and not venv.is_dir():
        why = f"{venv} is not a folder"
    elif venv.is_dir() and any(venv.iterdir()) and not (venv / "pyvenv.cfg").is_file():
        why = f"{venv} holds something that is no Python environment"
    else:
        return
    if venv != ROOT / ".venv":
        raise SetupError(why, "set EASI_VENV to a new or empty folder")


@contextlib.contextmanager
def only_one(venv: Path) -> Iterator[None]:
    """Allow one set-up per environment at a time; another one waits.

    uv inherits the lock. It is thus still held if this process is killed while uv goes on.
    """
    venv.parent.mkdir(parents=True, exist_ok=True)
    name = venv.parent / f".{venv.name.lstrip('.')}.setup-lock"
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
    os.set_inheritable(descriptor, True)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another set-up of {venv} is at work; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make(uv: Uv, venv: Path, wanted: int) -> None:
    """Make an empty environment, which will take ``wanted`` GB, with a Python that fits."""
    python = find_python(uv)
    venv.mkdir(exist_ok=True)
    free = shutil.disk_usage(venv).free / 2**30
    if free < wanted:
        say(
            f"note: {venv.parent} has {free:.0f} GB free; "
            f"the environment takes up to {wanted} GB (EASI_VENV puts it elsewhere)"
        )
    # Relocatable: it may be moved together with its checkout.
    uv.run("venv", "--quiet", "--clear", "--force", "--relocatable", "--python", python, str(venv))


def try_flash_attn(uv: Uv, venv: Path, options: argparse.Namespace) -> str:
    """Build flash-attn if this can work here and has not failed before.

    Returns:
        One line on the outcome, in every case.
    """
    absent = "note: flash-attn is not installed: {}. Use attn_implementation=sdpa"
    log = venv / "flash-attn.log"
    if version := version_of(venv, "flash-attn"):
        return f"flash-attn {version} is installed"
    if options.no_flash_attn:
        return absent.format("not asked for")
    machine = flash_build.look(venv)
    reason = flash_build.why_not(machine)
    if not reason and log.exists():
        reason = f"its last build failed; to try again, remove {log}"
    if reason:
        return absent.format(reason)
    say(
        "building flash-attn for the GPUs here "
        f"(at most {flash_build.LIMIT_SECONDS // 60} minutes; everything else is ready; "
        "Ctrl-C leaves it out)"
    )
    how = ("--no-deps", "--no-build-isolation", "--require-hashes")
    argv = [uv.program, "pip", "install", "--python", str(venv / "bin" / "python"), *how]
    variables = {
        **uv.variables,
        **flash_build.build_variables(machine),
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    lock = str(LOCKS / "flash-attn.lock")
    if reason := flash_build.build([*argv, "-r", lock], variables, log):
        return absent.format(reason)
    log.unlink()
    return f"flash-attn {version_of(venv, 'flash-attn')} is installed"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
