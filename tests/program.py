"""The program as a user starts it, with its own home folder.

What it leaves behind is read without the program's code.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAM = REPOSITORY / "scripts" / "submissions" / "run_easi_eval.py"
RESULT_FILES = ("easi_scores.csv", "easi_scores.md", "easi_results.json", "easi_results.zip")
# In the environment of every process of one launch, so that they can be found.
MARK = "EASI_TEST_MARK"
# What no file, command line or screen may show.
SECRETS = {
    "HF_TOKEN": "hf_" + "NeverShowThisToken" * 2,
    "OPENAI_API_KEY": "sk-" + "NeverShowThisKey" * 3,
    "SOME_SERVICE_PASSWORD": "never-show-this-password",
}
# Prefixes of the tester's variables that would lead the program to the tester's files, hub or
# devices.
_OWN = (
    "HF_",
    "HUGGING",
    "TRANSFORMERS",
    "XDG_",
    "LMMS_",
    "LMU",
    "VLMEVAL",
    "MMEVAL",
    "EASI_",
    "MPL",
    "CUDA_",
    "OMP_",
    "OPENAI",
    "COLUMNS",
)


# ---- starting it ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class User:
    """A user with an empty home who works in ``root``.

    The home is ``root/home``; ``root/cache`` and ``root/huggingface`` are for caches. ``machine``
    is a command that runs the rest of its words on another machine.
    """

    root: Path
    secrets: bool = True
    program: Path = PROGRAM
    machine: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for folder in self.places:
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def places(self) -> tuple[Path, Path, Path]:
        return self.root / "home", self.root / "cache", self.root / "huggingface"

    def environment(self, **changes: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
        home, cache, huggingface = map(str, self.places)
        secrets = SECRETS if self.secrets else {}
        return {
            **kept,
            **secrets,
            "HOME": home,
            "XDG_CACHE_HOME": cache,
            "HF_HOME": huggingface,
            **changes,
        }

    @contextmanager
    def start(self, *options: object, **changes: str) -> Iterator[Launch]:
        """A launch under way; whatever is left of it dies with the block."""
        launch = Launch(self, [str(option) for option in options], changes)
        try:
            yield launch
        finally:
            launch.end()

    def run(self, *options: object, seconds: float = 600, **changes: str) -> Launch:
        """A launch that has ended by itself."""
        with self.start(*options, **changes) as launch:
            launch.wait(seconds)
        return launch


class Launch:
    """One start of the program.

    ``code``, ``out``, ``err`` and ``seconds`` are there once it has ended. ``commands`` is every
    command line that was seen running in it. ``cost`` is the number to which bounds on its duration
    apply: its ``seconds``, or, on a busy machine, its processor time, which other programs do not
    stretch.
    """

    def __init__(self, user: User, options: list[str], changes: dict[str, str]) -> None:
        self.options = options
        self.mark = uuid.uuid4().hex
        self.commands: set[str] = set()
        self.code: int | None = None
        self.seconds = self.cost = 0.0
        self.output_dir = (
            Path(options[options.index("--output-dir") + 1]) if "--output-dir" in options else None
        )
        self._logs = self._known_logs()
        self._folder = user.root / "screens" / self.mark
        self._folder.mkdir(parents=True)
        self._began, self._used = time.monotonic(), _processor_time()
        with self._screen("out").open("wb") as out, self._screen("err").open("wb") as err:
            self.process = subprocess.Popen(
                [*user.machine, sys.executable, str(user.program), *options],
                cwd=user.root,
                env=user.environment(**changes, **{MARK: self.mark}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    @property
    def out(self) -> str:
        return self._screen("out").read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return self._screen("err").read_text(encoding="utf-8")

    @property
    def said(self) -> str:
        """All that was shown, with the end of the log: what a failing test needs to tell."""
        logged = "".join(
            log.read_text(encoding="utf-8", errors="replace")[-4000:] for log in self.logs
        )
        return (
            f"exit {self.code} after {self.seconds:.0f} s\n{self.out[-6000:]}\n"
            f"{self.err[-3000:]}\n--- log\n{logged}"
        )

    @property
    def logs(self) -> list[Path]:
        """The logs that this launch made."""
        return self._made if self.code is not None else sorted(self._known_logs() - self._logs)

    def wait(self, seconds: float) -> None:
        self.process.wait(seconds)
        if self.code is None:
            self._made = self.logs
            self.code, self.seconds = self.process.returncode, time.monotonic() - self._began
            busy = os.getloadavg()[0] > (os.cpu_count() or 1)
            self.cost = min(self.seconds, _processor_time() - self._used) if busy else self.seconds

    def alive(self) -> list[int]:
        """The processes of this launch that still run, the program itself included."""
        return [pid for pid, _ in marked(self.mark)]

    def end(self) -> None:
        self._over.set()
        self._watcher.join()
        for pid in self.alive():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self.commands.update(command for _, command in marked(self.mark))

    def _screen(self, name: str) -> Path:
        return self._folder / f"{name}.txt"

    def _known_logs(self) -> set[Path]:
        return set(self.output_dir.glob("eval_*.log")) if self.output_dir else set()


def _processor_time() -> float:
    """Of all processes that we started and that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def marked(mark: str) -> list[tuple[int, str]]:
    """Living processes that inherited ``mark``: pid and command line (a zombie has neither)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                found.append(
                    (
                        int(entry.name),
                        (entry / "cmdline")
                        .read_bytes()
                        .replace(b"\0", b" ")
                        .decode(errors="replace"),
                    )
                )
        except OSError:
            continue
    return found


def wait_until(true: Callable[[], object], seconds: float, launch: Launch | None = None) -> float:
    """Wait for ``true()``; returns how long it took.

    Fails the test when it does not become true in time, or when the launch ends before.
    """
    began = time.monotonic()
    while not true():
        passed = time.monotonic() - began
        assert passed < seconds, f"waited {seconds} s in vain" + (
            f"\n{launch.said}" if launch else ""
        )
        assert launch is None or launch.process.poll() is None, f"it ended too early\n{launch.said}"
        time.sleep(0.02)
    return time.monotonic() - began


def a_closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# ---- what it left --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Results:
    """The four result files as they were at one time.

    They are copied, because the next launch writes them anew.
    """

    folder: Path

    @classmethod
    def keep(cls, source: Path, target: Path) -> Results:
        target.mkdir(parents=True)
        for name in RESULT_FILES:
            shutil.copy2(source / name, target / name)
        return cls(target)

    @property
    def payload(self) -> dict[str, Any]:
        return json.loads((self.folder / "easi_results.json").read_text(encoding="utf-8"))

    @property
    def zip(self) -> Path:
        return self.folder / "easi_results.zip"

    @property
    def table(self) -> dict[tuple[str, str], dict[str, str]]:
        """The lines of the score table by benchmark and part, without the date of the launch."""
        with (self.folder / "easi_scores.csv").open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        for line in lines:
            del line["date"]
        return {(line["benchmark"], line["part"]): line for line in lines}

    def line(self, key: str) -> dict[str, str]:
        """The headline of one registry key; a half of SITE has its line below SITE."""
        return self.table[("site", key) if key.startswith("site_") else (key, "")]

    def score(self, key: str) -> float:
        return float(self.line(key)["score"])


@dataclass(frozen=True)
class RunFolder:
    """``runs/<backend>/<model>-<identity>``."""

    root: Path
    backend: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "backend", self.root.parent.name)

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.root / "run_manifest.json").read_text(encoding="utf-8"))

    def output(self, key: str) -> Path:
        return self.root / "outputs" / key

    def items(self, key: str) -> list[str]:
        return json.loads((self.root / "items" / f"{key}.json").read_text(encoding="utf-8"))["ids"]

    def records(self, kind: str, launch: int | None = None) -> list[dict[str, Any]]:
        """The journal's records of one kind, from one launch if it is given.

        A torn last line is left out.
        """
        found = []
        for path in sorted((self.root / "journal").glob("*.jsonl")):
            lines = [
                json.loads(line.decode("utf-8", "surrogatepass"))
                for line in path.read_bytes().split(b"\n")[:-1]
            ]
            if lines and (launch is None or lines[0]["launch"] == launch):
                found += [{**line, "file": path.name} for line in lines if line["kind"] == kind]
        return found

    @property
    def answers(self) -> list[dict[str, Any]]:
        """Every answer that was ever generated, failures left out."""
        return [record for record in self.records("answer") if record["failure"] is None]

    def texts(self, key: str) -> dict[str, str]:
        """The answer to each question of one benchmark.

        Fails if one was generated twice in one epoch.
        """
        found: dict[str, str] = {}
        for answer in self.answers:
            if answer["benchmark"] == key:
                assert answer["item"] not in found, f"{key} {answer['item']} was generated twice"
                found[answer["item"]] = answer["text"]
        return found


def run_folders(output_dir: Path, backend: str) -> list[RunFolder]:
    return [
        RunFolder(path)
        for path in sorted((output_dir / "runs" / backend).glob("*"))
        if path.is_dir()
    ]


def run_folder(output_dir: Path, backend: str, model: str = "easi-smoke__Tiny-VLM") -> RunFolder:
    """The only run of a model on a backend."""
    (found,) = (
        folder
        for folder in run_folders(output_dir, backend)
        if folder.root.name.rpartition("-")[0] == model
    )
    return found


def answered_otherwise(folder: RunFolder, root: Path, text: Callable[[str, str, str], str]) -> None:
    """Copy a run to ``root``, answered and not scored, with other answers.

    In its journal each answer is ``text(benchmark, item, answer)``.
    """
    for name in ("journal", "items"):
        shutil.copytree(folder.root / name, root / name)
    shutil.copy2(folder.root / "work.json", root)
    (root / "outputs").mkdir()
    (root / "answering.done").touch()
    for path in (root / "journal").glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            if line["kind"] == "answer":
                line["text"] = text(line["benchmark"], line["item"], line["text"])
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def twice(folder: RunFolder) -> list[tuple[str, str, int]]:
    """Questions that were answered more than once in one epoch."""
    seen: set[tuple[str, str, int]] = set()
    again = []
    for answer in folder.answers:
        key = answer["benchmark"], answer["item"], answer["epoch"]
        again += [key] if key in seen else []
        seen.add(key)
    return again


def files_below(folders: Iterable[Path]) -> list[str]:
    return sorted(str(path) for folder in folders for path in folder.rglob("*"))
