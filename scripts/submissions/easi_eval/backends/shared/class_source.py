"""The source of one class of a backend, as a syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ClassSource:
    """The source of one class.

    Attributes:
        module: Dotted name of its module.
        path: The file.
        node: The class in the syntax tree.
        tree: The syntax tree of the whole file.
    """

    module: str
    path: Path
    node: ast.ClassDef
    tree: ast.Module

    @property
    def name(self) -> str:
        """The class's name."""
        return self.node.name

    @property
    def init(self) -> ast.FunctionDef | None:
        """The class's own ``__init__``; None if it has none."""
        return next(
            (
                node
                for node in self.node.body
                if isinstance(node, ast.FunctionDef) and node.name == "__init__"
            ),
            None,
        )

    def code(self) -> Iterator[ast.AST]:
        """Yield the nodes of the class and of its file outside other classes.

        ``BaseModel``, the root of all classes, is left out: it loads nothing.
        """
        if self.name == "BaseModel":
            return
        for statement in self.tree.body:
            if statement is self.node or not isinstance(statement, ast.ClassDef):
                yield from ast.walk(statement)
