"""Prints what the tools find and the figures of the code's structure; exits 1 if one is too high.

Run ``.venv/bin/python tests/structure.py`` in an environment made with ``setup.sh --test``.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "easi_eval": ROOT / "scripts/submissions/easi_eval",
    "easi_vlmevalkit": ROOT / "VLMEvalKit/easi_vlmevalkit",
    "easi_lmms_eval": ROOT / "lmms-eval/easi_lmms_eval",
}
# Folders that have the same files, each for one backend.
MIRRORED = (
    {"easi_eval.backends.vlmevalkit", "easi_eval.backends.lmms_eval"},
    {"easi_vlmevalkit", "easi_lmms_eval"},
)
TOOLS = {
    "ruff format": ("ruff", "format", "--check", "."),
    "ruff check": ("ruff", "check", "."),
    "mypy": ("mypy",),
    "lint-imports": ("lint-imports", "--no-cache", "--no-logo"),
}


@dataclass(frozen=True)
class Figure:
    """A figure of the structure, its bound, and what it consists of."""

    name: str
    value: int
    bound: int
    which: str = ""

    def __str__(self) -> str:
        which = f": {self.which}" if self.which else ""
        return f"{self.name}: {self.value} (at most {self.bound}){which}"


def run(tool: str) -> subprocess.CompletedProcess[str]:
    """Run one of ``TOOLS`` over the repository."""
    program, *arguments = TOOLS[tool]
    return subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def figures() -> list[Figure]:
    """Return the figures; imports inside functions and for type checking count."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    loose = [path.stem for path in PACKAGES["easi_eval"].glob("[!_]*.py")]
    return [
        *depth_and_circles(imports),
        Figure("loose modules", len(loose), 2, ", ".join(loose)),
        twice("class names that stand twice", classes()),
        twice("module names that stand twice", modules(sorted(graph.modules))),
    ]


def depth_and_circles(imports: dict[str, set[str]]) -> list[Figure]:
    """Return the length of the longest chain of imports, and whether modules import in a circle."""
    chains: dict[str, tuple[str, ...]] = {}
    try:
        for module in TopologicalSorter(imports).static_order():
            below = max((chains[other] for other in imports[module]), key=len, default=())
            chains[module] = (module, *below)
    except CycleError as error:
        return [Figure("circles", 1, 0, " > ".join(error.args[1][::-1]))]
    longest = max(chains.values(), key=len)
    return [
        Figure("circles", 0, 0),
        Figure("import depth", len(longest) - 1, 10, " > ".join(longest)),
    ]


def classes() -> Iterable[tuple[str, str]]:
    """Yield the name and the module's folder of each class."""
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            place = ".".join((package, *path.relative_to(folder).parent.parts))
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ClassDef):
                    yield node.name, place


def modules(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Yield the name and the folder of each module that is a file; folders are rooms."""
    folders = {name.rpartition(".")[0] for name in names}
    for name in names:
        folder, _, leaf = name.rpartition(".")
        if folder and name not in folders:
            yield leaf, folder


def twice(name: str, places: Iterable[tuple[str, str]]) -> Figure:
    """Return the figure of names that stand in two places that do not mirror each other."""
    found: dict[str, list[str]] = {}
    for each, place in places:
        found.setdefault(each, []).append(place)
    bad = sorted(
        each
        for each, where in found.items()
        if max(Counter(where).values()) > 1 or (len(where) > 1 and set(where) not in MIRRORED)
    )
    return Figure(name, len(bad), 0, ", ".join(bad))


def main() -> int:
    """Print everything; 1 if a tool finds something or a figure is too high."""
    failed = False
    for tool in TOOLS:
        done = run(tool)
        failed |= done.returncode != 0
        print(f"{tool}: {'nothing found' if not done.returncode else done.stdout + done.stderr}")
    for figure in figures():
        failed |= figure.value > figure.bound
        print(figure)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
