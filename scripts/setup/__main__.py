"""Builds one environment with the orchestrator and both backends (``bash scripts/setup.sh``).

It installs from the committed locks. It runs under a bare Python 3.11 with the standard library
only, so it starts processes itself: the module of easi_eval that manages them is not installed yet.
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
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import flash_build
from index_settings import untied
from installing import (
    Installer,
    SetupError,
    base_pip,
    installers,
    read_settings,
    say,
    write_without,
)
from recipe import FLASH_ATTN, STAMP, Need, Recipe, Stamp, assess, installed, pins, read_stamp

ROOT = Path(__file__).resolve().parents[2]
# The only pinned package without a wheel that must be compiled. No benchmark of ours imports
# it; VLMEvalKit's OCR scoring does.
COMPILED = "polygon3"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="bash scripts/setup.sh",
        allow_abbrev=False,
        description="Make the environment ready: the orchestrator and both backends. "
        "Run again, it repairs, or takes a second.",
        epilog="Variables: EASI_VENV (where the environment goes, default .venv), "
        "EASI_PYTHON (the Python 3.11 to build it with). "
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
        "--quiet", action="store_true", help="say nothing if there is nothing to do"
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
    extras = tuple(name for name in ("test", "vllm") if getattr(options, name))
    try:
        if options.check:
            return check(venv)
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            raise SetupError(
                "the pinned packages are those of Linux on x86-64; "
                f"this is {platform.system()} on {platform.machine()}",
                "use such a machine (a container will do)",
            )
        set_up(Recipe(ROOT, venv, extras), options)
        return 0
    except SetupError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again, it starts where it can", file=sys.stderr)
        return 130


def check(venv: Path) -> int:
    """Run ``easi_eval.run.doctor`` in the environment and return its exit status.

    Raises:
        SetupError: The environment does not exist or its set-up did not finish.
    """
    python = venv / "bin" / "python"
    stamp = read_stamp(venv)
    if stamp is None or not stamp.ready or not os.access(python, os.X_OK):
        state = "is not finished" if venv.is_dir() else "does not exist"
        raise SetupError(f"the environment {venv} {state}", "bash scripts/setup.sh")
    return subprocess.run(
        [str(python), "-s", "-m", "easi_eval.run.doctor"],
        env=untied(os.environ),
        stdin=subprocess.DEVNULL,
    ).returncode


def set_up(recipe: Recipe, options: argparse.Namespace) -> None:
    """Bring the environment up to date, if it is not.

    Extras of an earlier set-up are kept.

    Raises:
        SetupError: The folder must not be touched, or the set-up failed.
    """
    with only_one(recipe.venv):
        began = time.monotonic()
        before = read_stamp(recipe.venv)
        if before is not None:
            recipe = replace(recipe, extras=tuple(sorted({*recipe.extras, *before.extras})))
        verdict = assess(recipe, ROOT / ".venv")
        if verdict.need is Need.REFUSE:
            raise SetupError(verdict.why, "set EASI_VENV to a new or empty folder")
        if verdict.need is Need.NOTHING:
            if not options.quiet:
                say(f"ready: {recipe.venv} (nothing to do)")
            return
        say(f"setting up {recipe.venv} with Python {platform.python_version()}: {verdict.why}")
        make(recipe, verdict.need, options, before)
        say(
            f"ready: {recipe.venv} in {time.monotonic() - began:.0f} s; "
            f"use it with: source {shlex.quote(f'{recipe.venv}/bin/activate')}"
        )


@contextlib.contextmanager
def only_one(venv: Path) -> Iterator[None]:
    """Allow one set-up per environment at a time; another one waits.

    Child processes inherit the lock. It is thus still held if this process is killed while its
    installer goes on.
    """
    try:
        venv.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(
            venv.parent / f".{venv.name.lstrip('.')}.setup-lock",
            os.O_RDWR | os.O_CREAT | os.O_CLOEXEC,
            0o666,
        )
    except OSError as error:
        raise SetupError(
            f"{venv.parent} cannot be written: {error.strerror}",
            "set EASI_VENV to a folder of yours",
        ) from error
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


def make(recipe: Recipe, need: Need, options: argparse.Namespace, before: Stamp | None) -> None:
    """Install into the environment and record the result in its stamp.

    The stamp says "not ready" from before the first change until the packages are installed. If an
    update fails before it has changed anything, the earlier stamp is restored.

    Raises:
        SetupError: The folder cannot be written, or no installer works.
    """
    stamp = Stamp(
        ready=False,
        venv=str(recipe.venv),
        root=str(recipe.root),
        digest=recipe.digest(),
        extras=recipe.extras,
    )
    try:
        recipe.venv.mkdir(parents=True, exist_ok=True)
        # First of all, so that a set-up killed at any later moment is recognised as unfinished.
        stamp.write(recipe.venv)
        if need is Need.REBUILD:
            empty(recipe.venv)
    except OSError as error:
        raise SetupError(
            f"{recipe.venv} cannot be written: {error.strerror}",
            "set EASI_VENV to a folder of yours",
        ) from error
    warn_about_space(recipe, need)
    left_out = compiled_left_out(recipe)
    untouched = fingerprint(recipe.site_packages)
    try:
        pip = base_pip(recipe)
        settings = read_settings(pip)
        installer = install(recipe, installers(recipe, pip, settings, need), frozenset(left_out))
    except SetupError:
        if (
            before is not None
            and before.ready
            and need is Need.UPDATE
            and fingerprint(recipe.site_packages) == untouched
        ):
            before.write(recipe.venv)  # nothing was changed: the environment is as usable as before
        raise
    shutil.rmtree(recipe.venv / ".bootstrap", ignore_errors=True)
    for package, why in left_out.items():
        say(f"note: {package} was left out: {why}")
    stamp = replace(
        stamp, ready=True, left_out=left_out, flash_attn=before.flash_attn if before else ""
    )
    # Ready before flash-attn is tried: its build may take long, and a run does not need it.
    stamp.write(recipe.venv)
    said = try_flash_attn(recipe, installer, options)
    say(said)
    replace(stamp, flash_attn=said).write(recipe.venv)


def fingerprint(site_packages: Path) -> frozenset[tuple[str, int]]:
    """Return names and times of the installed packages' metadata.

    It changes when a package is added, removed or replaced.
    """
    return frozenset(
        (entry.name, entry.stat().st_mtime_ns) for entry in site_packages.glob("*.dist-info")
    )


def install(recipe: Recipe, choice: Iterator[Installer], left_out: frozenset[str]) -> Installer:
    """Return the first installer that installs all packages.

    Raises:
        SetupError: None does; the error is that of the last one.
    """
    failed: SetupError | None = None
    for installer in choice:
        try:
            installer.install_locks(recipe, left_out)
            installer.install_projects(recipe)
            return installer
        except SetupError as error:
            failed = error
    raise failed or SetupError("nothing here can install packages", "apt install python3-pip")


def empty(venv: Path) -> None:
    """Remove everything in the environment's folder but the stamp.

    The folder itself stays: it may be a link to a larger disk.
    """
    for entry in venv.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != STAMP:
            entry.unlink()


def warn_about_space(recipe: Recipe, need: Need) -> None:
    """Print a note if a new environment may not fit on the disk."""
    wanted = (12 if "vllm" in recipe.extras else 9) if need is Need.REBUILD else 0
    free = shutil.disk_usage(recipe.venv).free / 2**30
    if free < wanted:
        say(
            f"note: {recipe.venv.parent} has {free:.0f} GB free; "
            f"the environment takes up to {wanted} GB (EASI_VENV puts it elsewhere)"
        )


def compiled_left_out(recipe: Recipe) -> dict[str, str]:
    """Return ``COMPILED`` with the reason if it cannot be compiled here, else an empty mapping."""
    if COMPILED in installed(recipe.site_packages):
        return {}
    headers = Path(sysconfig.get_path("include"), "Python.h")
    if not (shutil.which("cc") or shutil.which("gcc")):
        return {COMPILED: "no C compiler here (only VLMEvalKit's OCR benchmarks use it)"}
    if not headers.is_file():
        return {COMPILED: "no Python headers here (only VLMEvalKit's OCR benchmarks use it)"}
    return {}


def try_flash_attn(recipe: Recipe, installer: Installer, options: argparse.Namespace) -> str:
    """Build flash-attn if this can work here.

    Returns:
        One line on the outcome, in every case.
    """
    absent = "note: flash-attn is not installed: {}. Use attn_implementation=sdpa"
    if version := installed(recipe.site_packages).get("flash-attn"):
        return f"flash-attn {version} is installed"
    if options.no_flash_attn:
        return absent.format("not asked for")
    machine = flash_build.look(recipe.site_packages)
    if reason := flash_build.why_not(machine):
        return absent.format(reason)
    say(
        "building flash-attn for the GPUs here "
        f"(at most {flash_build.LIMIT_SECONDS // 60} minutes; everything else is ready; "
        "Ctrl-C leaves it out)"
    )
    environment = {
        **installer.environment,
        **flash_build.build_variables(machine),
        "PATH": f"{recipe.venv / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    for package in ("ninja", "flash-attn"):  # in this order: the build calls ninja
        with tempfile.TemporaryDirectory(prefix="easi-setup-") as folder:
            lock = recipe.root / FLASH_ATTN
            others = frozenset(pins(lock.read_text("utf-8"))) - {package}
            argv = [
                *installer.command,
                "--no-deps",
                "--require-hashes",
                "--no-build-isolation",
                "-r",
                str(write_without(lock, others, Path(folder))),
            ]
            if reason := flash_build.build(argv, environment, recipe.venv / "flash-attn.log"):
                return absent.format(reason)
    return f"flash-attn {installed(recipe.site_packages).get('flash-attn', '')} is installed"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
