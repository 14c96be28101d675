"""The local hub of ``--smoke``, which serves tiny data and a tiny model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ..backends import make_backend
from ..config import RunConfig
from ..core.events import Notice
from ..data.needs import HubSettings
from ..data.rehearsal import unpack
from .context import RunContext, make_context
from .smoke import planned_hub, rehearsal_folder

# Variables that would lead a client to the user's caches, or to another hub.
_USERS_OWN = (
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_DATASETS_CACHE",
    "HF_MODULES_CACHE",
    "HF_ASSETS_CACHE",
    "HF_XET_CACHE",
    "TRANSFORMERS_CACHE",
    "LMMS_EVAL_DATASETS_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "MMEVAL_ROOT",
    "LMUData",
)


@contextmanager
def rehearsal(context: RunContext) -> Iterator[RunContext]:
    """Serve the data of a rehearsal, and yield the context that uses them.

    A model named by the user comes from the real hub. Other runs keep their context.
    """
    if not context.cfg.smoke:
        yield context
        return
    from ..data.fetch import fetch  # loads the hub's client, which is slow

    model = context.model
    if context.asked.model:
        for found in fetch(context.backend.weights(model), _print_notice, context.hub):
            model = context.backend.localise(model, found.need.repo, found.path)
    with rehearsal_hub(context.cfg) as hub:
        backend = make_backend(context.cfg.backend, hub)
        yield make_context(context.asked, context.cfg, backend, hub, model)


def _print_notice(event: object) -> None:
    if isinstance(event, Notice):
        print(event.text)


@contextmanager
def rehearsal_hub(cfg: RunConfig) -> Iterator[HubSettings]:
    """Serve the tiny data and model on loopback for the length of the ``with`` block.

    Within the block the process environment is changed to use this hub only.
    """
    from ..data.local_hub.server import LocalHub  # loads an HTTP server, which others do not need

    before = dict(os.environ)
    with LocalHub(unpack(rehearsal_folder(cfg.output_dir))) as served:
        for name in _USERS_OWN:
            os.environ.pop(name, None)
        for name in ("NO_PROXY", "no_proxy"):
            os.environ[name] = ",".join(filter(None, ["127.0.0.1,localhost", before.get(name)]))
        os.environ["HF_HUB_DISABLE_XET"] = "1"
        if cfg.plain:  # lmms-eval's own launch requires a token even for public data
            os.environ["HF_TOKEN"] = "hf_rehearsal"
        try:
            yield replace(planned_hub(cfg), endpoint=served.endpoint)
        finally:
            os.environ.clear()
            os.environ.update(before)
