"""Let the installed transformers 4.57 read checkpoints that transformers 5 saved, in a process of any backend.

What is read is translated where transformers reads it, so that every model class gets it; the files stay as they are.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ..transformers5 import (
    FAST_TOKENIZER,
    FAST_TOKENIZERS,
    has_output_head,
    of_5,
    translate,
    translate_tokenizer,
)


def read_newer_configs() -> None:
    """Translate each config.json as it is read, and the names that only transformers 5 knows in tokenizer files.

    Raises EasiError, where a model is loaded, for what transformers 4.57 cannot be told. Does nothing where 5 is installed.
    """
    from transformers import PretrainedConfig, __version__

    if of_5(__version__):
        return

    base: Any = PretrainedConfig  # no precise type allows a method to be replaced
    read = base._dict_from_json_file.__func__
    if getattr(read, "translates", False):
        return

    @functools.wraps(read)
    def translated(cls: type, json_file: Any) -> dict[str, Any]:
        config = read(cls, json_file)
        made = translate(config, has_output_head(Path(json_file).parent))
        made.check(json_file)
        for line in made.said():
            print(f"{json_file}: {line}", flush=True)
        return made.config

    vars(translated)["translates"] = True
    base._dict_from_json_file = classmethod(translated)
    _read_newer_tokenizers()


def _read_newer_tokenizers() -> None:
    from transformers import PreTrainedTokenizerBase
    from transformers.models.auto import tokenization_auto

    auto: Any = tokenization_auto  # replaced like the method above
    base: Any = PreTrainedTokenizerBase
    by_name, make = auto.tokenizer_class_from_name, base.__init__

    def tokenizer_class_from_name(name: str) -> Any:
        return by_name(FAST_TOKENIZER if name in FAST_TOKENIZERS else name)

    @functools.wraps(make)
    def __init__(self: Any, **options: Any) -> None:
        make(self, **translate_tokenizer(options))

    auto.tokenizer_class_from_name = tokenizer_class_from_name
    base.__init__ = __init__
