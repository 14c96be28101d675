"""uv and pip: finding one that works here, and running it on the environment with pip's own settings."""

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
    r"\s*([-+~] |Using |Resolved |Checked |Audited |Built |Building |Downloading |Downloaded |Uninstalled )"
)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


class SetupError(Exception):
    """What went wrong and what to do, one line each."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def say(text: str) -> None:
    print(text, flush=True)


@dataclass(frozen=True)
class Installer:
    """Runs uv or pip on the environment. ``command`` ends where the arguments of ``install`` begin."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]

    def install_locks(self, recipe: Recipe, left_out: frozenset[str]) -> None:
        with tempfile.TemporaryDirectory(prefix="easi-setup-") as folder:
            locks = [write_without(lock, left_out, Path(folder)) for lock in recipe.locks]
            # First the tools that build source distributions: pinned too, so nothing is built with whatever is newest today.
            for part in (locks[:1], locks[1:]):
                self.run(
                    "--no-deps",
                    "--require-hashes",
                    "--no-build-isolation",
                    *self._compile(),
                    *(argument for lock in part for argument in ("-r", str(lock))),
                )

    def install_projects(self, recipe: Recipe) -> None:
        folders = [str(recipe.root / folder) for folder in PROJECTS.values()]
        self.run(
            "--no-deps",
            "--no-build-isolation",
            *(argument for folder in folders for argument in ("-e", folder)),
        )

    def run(self, *arguments: str) -> None:
        """Raises SetupError if the command fails."""
        if run_shown([*self.command, *arguments], self.environment) != 0:
            raise SetupError(
                f"{self.name} could not install the packages (its reason is above)",
                "check the network and pip's settings (pip config list), then run the same command again",
            )

    def _compile(self) -> tuple[str, ...]:
        # Importing a backend from source alone takes three times as long, in every process where Python may not write its caches.
        return ("--compile-bytecode",) if self.name == "uv" else ()


def write_without(lock: Path, left_out: frozenset[str], folder: Path) -> Path:
    """``lock`` itself, or a copy in ``folder`` without the packages left out."""
    text = lock.read_text("utf-8")
    entries = re.split(r"(?m)^(?=[A-Za-z0-9])", text)
    kept = [entry for entry in entries if normal(entry.partition("==")[0]) not in left_out]
    if len(kept) == len(entries):
        return lock
    copy = folder / lock.name
    copy.write_text("".join(kept), "utf-8")
    return copy


def run_shown(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """The exit status. On a terminal the command draws its own progress; elsewhere its lines are shown without credentials."""
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
    """Pip's own configuration as pip itself lists it, the environment's variables included."""
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
    """What can install into the environment, the best first: uv from its pinned lock line (ten times faster), then pip.

    Each makes the environment's folder usable first, where there is none yet. Raises SetupError if nothing can.
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
    """The pinned uv: the one in the environment, else fetched with pip into a folder of its own, which an externally managed
    Python allows. None if pip cannot get it.
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
    """A pip to start with: this Python's own, else the one its ensurepip brings along."""
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
    own = [str(recipe.python), "-s", "-m", "pip"]
    if not succeeds([*own, "--version"], environment) and not succeeds(
        [sys.executable, "-m", "venv", str(recipe.venv)], environment
    ):
        # Debian keeps ensurepip in a package of its own; without it pip can still work on the environment from outside.
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
