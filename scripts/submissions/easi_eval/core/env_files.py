"""``.env`` files: variables that the environment lacks are read from them."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import EasiError


def load_env_files(folders: Sequence[Path]) -> None:
    """Load the ``.env`` files of these folders into the environment.

    Variables that are set already, or by an earlier folder, keep their value.

    Raises:
        EasiError: A file is unreadable or a line is not ``NAME=value``. The message names file and
            line but never quotes the line, which may contain a secret.
    """
    from dotenv import load_dotenv
    from dotenv.parser import parse_stream

    for file in dict.fromkeys(folder / ".env" for folder in folders):
        if not file.is_file():
            continue
        try:
            text = file.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = file.read_bytes()[: error.start].count(b"\n") + 1
            raise EasiError(
                f"{file}, line {line}, is not UTF-8", hint="save the file in UTF-8"
            ) from error
        except OSError as error:
            raise EasiError(
                f"{file} cannot be read: {error.strerror or error}",
                hint="it must hold lines like HF_TOKEN=..., in UTF-8",
            ) from error
        for binding in parse_stream(io.StringIO(text)):
            if binding.error:
                # The parser's text of a binding includes the empty lines above it.
                said = binding.original.string
                lines_above = said[: len(said) - len(said.lstrip())].count("\n")
                raise EasiError(
                    f"{file}, line {binding.original.line + lines_above}, is no NAME=value",
                    hint="fix that line, or put # before it; put a value that contains quotes in "
                    "the other kind of quotes",
                )
        try:
            load_dotenv(stream=io.StringIO(text), override=False)
        except UnicodeEncodeError as error:
            raise EasiError(
                f"{file} holds letters that the locale's encoding "
                f"({sys.getfilesystemencoding()}) does not know",
                hint="set LC_ALL=C.UTF-8",
            ) from error
