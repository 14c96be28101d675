"""Lets transformers 4.57 read checkpoints saved by transformers 5, in a process of any backend.

Files are translated where transformers reads them, so that it works for every model class. The
files themselves are not changed.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from .transformers5 import (
    FAST_TOKENIZER,
    FAST_TOKENIZERS,
    has_output_head,
    of_5,
    translate,
    translate_tokenizer,
)


def read_newer_configs() -> None:
    """Patch transformers to translate each ``config.json`` and tokenizer config when it is read.

    Loading a model then raises EasiError if its config has something without an equivalent in 4.57.
    Does nothing if it was called before. transformers 5 needs no translation; it decodes pictures
    with torchvision, which is imported here: it fails on every PNG if decord was imported first.
    So the backend is imported after this call.
    """
    from transformers import PretrainedConfig, __version__

    if of_5(__version__):
        import torchvision.io  # noqa: F401

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
