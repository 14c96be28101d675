"""Finds a uv or pip that works here and runs it on the environment with pip's own settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from index_settings import (
    IndexSettings,
    parse_pip_config,
    pip_environment,
    settings_from_pip,
    untied,
    uv_environment,
)
from recipe import BOOTSTRAP, PROJECTS, Need, Recipe, installed, normal, pins

_CHATTER = re.compile(
    r"\s*([-+~] |Using |Resolved |Checked |Audited |Built |Building "
    r"|Downloading |Downloaded |Uninstalled )"
)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


class SetupError(Exception):
    """A failed set-up: what went wrong and what to do, one line each."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


@dataclass(frozen=True)
class Installer:
    """uv or pip, run on the environment.

    Attributes:
        name: ``uv`` or ``pip``.
        command: The command up to where the arguments of ``install`` begin.
        environment: All its environment variables.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]

    def install_locks(self, recipe: Recipe, left_out: frozenset[str]) -> None:
        """Install the packages of the recipe's locks, except those left out."""
        with tempfile.TemporaryDirectory(prefix="easi-setup-") as folder:
            locks = [write_without(lock, left_out, Path(folder)) for lock in recipe.locks]
            # First the tools that build source distributions. They are pinned too, so that no build
            # uses the newest version of the day.
            for part in (locks[:1], locks[1:]):
                self.run(
                    "--no-deps",
                    "--require-hashes",
                    "--no-build-isolation",
                    *self._compile(),
                    *(argument for lock in part for argument in ("-r", str(lock))),
                )

    def install_projects(self, recipe: Recipe) -> None:
        """Install the three projects of this repository as editable packages."""
        folders = [str(recipe.root / folder) for folder in PROJECTS.values()]
        self.run(
            "--no-deps",
            "--no-build-isolation",
            *(argument for folder in folders for argument in ("-e", folder)),
        )

    def run(self, *arguments: str) -> None:
        """Run ``install`` with these arguments.

        Raises:
            SetupError: The command failed.
        """
        if run_shown([*self.command, *arguments], self.environment) != 0:
            raise SetupError(
                f"{self.name} could not install the packages (its reason is above)",
                "check the network and pip's settings (pip config list), "
                "then run the same command again",
            )

    def _compile(self) -> tuple[str, ...]:
        # Without compiled files the import of a backend takes three times as long, in every process
        # if Python may not write its caches.
        return ("--compile-bytecode",) if self.name == "uv" else ()


def write_without(lock: Path, left_out: frozenset[str], folder: Path) -> Path:
    """Return ``lock`` itself, or a copy in ``folder`` without the packages left out."""
    text = lock.read_text("utf-8")
    entries = re.split(r"(?m)^(?=[A-Za-z0-9])", text)
    kept = [entry for entry in entries if normal(entry.partition("==")[0]) not in left_out]
    if len(kept) == len(entries):
        return lock
    copy = folder / lock.name
    copy.write_text("".join(kept), "utf-8")
    return copy


def run_shown(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command and return its exit status.

    On a terminal it shows its own progress; otherwise its lines are printed without credentials.
    """
    if sys.stderr.isatty():
        return subprocess.run(
            argv, env=dict(environment), stdin=subprocess.DEVNULL, close_fds=False
        ).returncode
    process = subprocess.Popen(
        argv,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        close_fds=False,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if not _CHATTER.match(line):
            say("  " + _CREDENTIALS.sub("***", line.rstrip()))
    return process.wait()


def read_settings(pip: Sequence[str]) -> IndexSettings:
    """Read pip's configuration as pip itself lists it, environment variables included.

    Raises:
        SetupError: pip cannot read its configuration.
    """
    listing = subprocess.run(
        [*pip, "config", "list"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    if listing.returncode != 0:
        last = listing.stderr.strip().rpartition("\n")[2]
        raise SetupError(
            f"pip cannot read its configuration: {_CREDENTIALS.sub('***', last)}",
            "pip config debug shows the files",
        )
    return settings_from_pip(parse_pip_config(listing.stdout))


def installers(
    recipe: Recipe, pip: Sequence[str], settings: IndexSettings, need: Need
) -> Iterator[Installer]:
    """Yield what can install into the environment, the best first.

    These are uv, as pinned in the lock (ten times faster), and then pip. Each one creates the
    environment first if there is none.

    Raises:
        SetupError: Nothing can install.
    """
    environment = untied(os.environ)
    with_pip = {**environment, **pip_environment(settings)}
    uv = find_uv(recipe, pip, with_pip)
    if uv is not None:
        with_uv = {**environment, **uv_environment(settings, environment)}
        install_with_uv = (str(uv), "pip", "install", "--python", str(recipe.python))
        if (
            need is not Need.REBUILD
            or run_shown(
                [
                    str(uv),
                    "venv",
                    "--quiet",
                    "--allow-existing",
                    "--python",
                    sys.executable,
                    str(recipe.venv),
                ],
                with_uv,
            )
            == 0
        ):
            yield Installer("uv", install_with_uv, with_uv)
            if settings.extra_index_urls:
                # pip only warns of an extra index that does not answer, uv gives up.
                say("note: once more, without the extra indexes")
                fewer = replace(settings, extra_index_urls=())
                yield Installer(
                    "uv", install_with_uv, {**environment, **uv_environment(fewer, environment)}
                )
    say("note: uv cannot be used here; going on with pip, which takes longer")
    yield pip_installer(recipe, with_pip)


def find_uv(recipe: Recipe, pip: Sequence[str], with_pip: Mapping[str, str]) -> Path | None:
    """Return the pinned uv, or None if pip cannot fetch it.

    It is the one in the environment, else one that pip installs into a folder of its own. An
    externally managed Python allows that.
    """
    lock = recipe.root / BOOTSTRAP
    wanted = pins(lock.read_text("utf-8"))["uv"]
    own = recipe.venv / "bin" / "uv"
    if installed(recipe.site_packages).get("uv") == wanted and os.access(own, os.X_OK):
        return own
    target = recipe.venv / ".bootstrap"
    with tempfile.TemporaryDirectory(prefix="easi-setup-") as folder:
        only_uv = write_without(
            lock, frozenset(pins(lock.read_text("utf-8"))) - {"uv"}, Path(folder)
        )
        code = run_shown(
            [
                *pip,
                "install",
                "--quiet",
                "--no-deps",
                "--require-hashes",
                "--target",
                str(target),
                "-r",
                str(only_uv),
            ],
            with_pip,
        )
    uv = target / "bin" / "uv"
    return uv if code == 0 and os.access(uv, os.X_OK) else None


def base_pip(recipe: Recipe) -> tuple[str, ...]:
    """Return the command of a pip to start with.

    It is this Python's own pip, else the one that its ensurepip provides.

    Raises:
        SetupError: There is neither.
    """
    environment = untied(os.environ)
    if succeeds([sys.executable, "-s", "-m", "pip", "--version"], environment):
        return (sys.executable, "-s", "-m", "pip")
    helper = recipe.venv / ".bootstrap" / "pip"
    if succeeds([sys.executable, "-m", "venv", str(helper)], environment):
        return (str(helper / "bin" / "python"), "-m", "pip")
    raise SetupError(
        f"{sys.executable} has no pip",
        "apt install python3-pip python3.11-venv (or: python3.11 -m ensurepip), then again",
    )


def pip_installer(recipe: Recipe, environment: Mapping[str, str]) -> Installer:
    """Return pip as the installer; create the environment first if it has no pip.

    Raises:
        SetupError: This Python cannot create an environment.
    """
    own = [str(recipe.python), "-s", "-m", "pip"]
    if not succeeds([*own, "--version"], environment) and not succeeds(
        [sys.executable, "-m", "venv", str(recipe.venv)], environment
    ):
        # Debian keeps ensurepip in a package of its own. Without it, pip can still work on the
        # environment from outside.
        own = [sys.executable, "-s", "-m", "pip", "--python", str(recipe.python)]
        if not (
            succeeds([sys.executable, "-m", "venv", "--without-pip", str(recipe.venv)], environment)
            and succeeds([*own, "--version"], environment)
        ):
            raise SetupError(
                f"{sys.executable} cannot make an environment",
                "apt install python3.11-venv, then again",
            )
    quiet = () if sys.stderr.isatty() else ("--quiet", "--quiet")
    return Installer("pip", (*own, "install", *quiet), environment)


def succeeds(argv: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Return whether a command can be started and exits with 0."""
    try:
        return (
            subprocess.run(
                argv,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                close_fds=False,
            ).returncode
            == 0
        )
    except OSError:
        return False
