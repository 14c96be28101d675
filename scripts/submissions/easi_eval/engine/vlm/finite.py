"""Refusal of models that compute NaN: a check of their weights, and a canary question.

Such a model answers noise without an error. Causes are damaged checkpoints, a dtype that does not
hold their values, and own code of a checkpoint whose buffers this transformers leaves unset.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np
import torch
from PIL import Image
from torch.nn.modules.module import register_module_forward_hook

from ...core.errors import EasiError, worded
from ..hang import Limits
from ..model_errors import free_memory
from .missing_weights import listed

DEPTH = 4  # objects, lists and dicts between a backend's object and a torch module
MANY = 100  # entries of a list or dict that is searched; a vocabulary has more
CHUNK = 2**22  # values of a float8 weight that are converted at a time
QUESTION = "Is this picture dark or bright? Answer with one word."
SIDE = 112  # of the picture, in pixels: a multiple of common patch sizes

# Asks the model with the backend's own call; "" if it gave no answer.
AskCanary = Callable[[Image.Image, str], str]


class _LogitsSeen(BaseException):
    """Ends the canary question after its first forward pass; classes do not catch it."""


def refuse_nonfinite(model: object) -> None:
    """Refuse a model with NaN in a weight or buffer, or with infinity in a weight.

    Buffers may hold infinity, as masks do. Integers, packed formats and tensors without values
    (device "meta") are not checked. Each tensor is reduced in place on its device.

    Args:
        model: A model, or a backend's object around one.

    Raises:
        EasiError: Weights or buffers are not finite.
    """
    began, modules = time.monotonic(), list(_modules(model))
    # By id: one tensor may be held in several places.
    all_weights = {id(each): (name, each) for m in modules for name, each in m.named_parameters()}
    all_buffers = {id(each): (name, each) for m in modules for name, each in m.named_buffers()}
    weights = {name for name, each in all_weights.values() if _extremes(each) != "finite"}
    buffers = {name for name, each in all_buffers.values() if _extremes(each) == "NaN"}
    if weights:
        raise EasiError(
            f"{len(weights)} of the model's weights hold NaN or infinity: {listed(weights)}",
            hint="its answers would be meaningless: download the checkpoint again, or load or "
            "save it in "
            "a dtype that holds its values",
        )
    if buffers:
        raise EasiError(
            f"{len(buffers)} of the model's buffers hold NaN: {listed(buffers)}",
            hint="its answers would be meaningless: its code does not set them with the installed "
            "transformers; use a checkpoint of the same model in transformers' own form",
        )
    if modules:
        print(f"the model's weights are finite ({time.monotonic() - began:.1f} s)", flush=True)


def refuse_noise(model: object, ask: AskCanary) -> None:
    """Ask one small question, and refuse a model that computes NaN.

    The question ends with the first logits. A model in which no torch module is found (an engine)
    answers in full, and its answer must not be empty. An exception of the question is printed
    and refuses nothing: real questions may be of another form. The generators of random numbers
    do not change. A question that takes longer than a first question may (``hang.Limits``) ends
    the process.

    Args:
        model: A model, or a backend's object around one.
        ask: Asks it.

    Raises:
        EasiError: The logits are NaN, or the engine's answer is empty.
    """
    began, logits = time.monotonic(), _Logits(model)
    picture = Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB")
    answer, ended = None, "was answered"
    try:
        with _random_state_kept(), _ended_if_hung(), register_module_forward_hook(logits):
            answer = ask(picture, QUESTION)
    except _LogitsSeen:
        pass
    except Exception as error:  # whatever the class raises
        ended = f"raised {worded(error)}"
        free_memory([error])
    if logits.are_nan:
        raise EasiError(
            "the model computes NaN: its answers would be meaningless",
            hint="use another dtype, or a checkpoint whose code works with the installed "
            "transformers",
        )
    if answer is not None and not answer.strip() and not logits.modules:
        raise EasiError(
            f"the model's answer to {QUESTION!r} is empty",
            hint="the engine's lines in the log may say why; check that it supports this model",
        )
    print(f"the test question {ended} ({time.monotonic() - began:.1f} s)", flush=True)


def _modules(held: object, depth: int = DEPTH) -> Iterator[torch.nn.Module]:
    """The outermost torch modules that an object holds in attributes, lists and dicts."""
    if isinstance(held, torch.nn.Module):
        yield held
        return
    inner: tuple[object, ...] = ()
    if isinstance(held, list | tuple | dict):
        if len(held) <= MANY:
            inner = tuple(held.values() if isinstance(held, dict) else held)
    elif not isinstance(held, type | ModuleType):
        inner = tuple(getattr(held, "__dict__", {}).values())
    if depth:
        for each in inner:
            yield from _modules(each, depth - 1)


def _extremes(tensor: torch.Tensor) -> str:
    """The worst of a tensor's values: "finite", "infinity" or "NaN"."""
    if not tensor.is_floating_point() or tensor.is_meta:
        return "finite"
    found = "finite"
    try:
        # float8 has no arithmetic.
        chunks = tensor.detach().flatten().split(CHUNK) if tensor.itemsize == 1 else [tensor]
        for chunk in chunks if tensor.numel() else ():
            values = chunk.detach() if tensor.itemsize > 1 else chunk.to(torch.bfloat16)
            extremes = torch.stack(torch.aminmax(values)).tolist()
            if any(map(math.isnan, extremes)):
                return "NaN"
            if any(map(math.isinf, extremes)):
                found = "infinity"
    except (RuntimeError, TypeError, ValueError):  # packed in a special format
        return "finite"
    return found


class _Logits:
    """Watches torch modules for logits; a global forward hook.

    Attributes:
        modules: The torch modules that the model holds.
        are_nan: Whether the logits of a next token were NaN.
    """

    def __init__(self, model: object) -> None:
        self.modules = list(_modules(model))
        self.are_nan = False
        self._heads = {id(head) for module in self.modules for head in _heads(module)}
        self._thread = threading.get_ident()

    def __call__(self, module: torch.nn.Module, args: object, output: object) -> None:
        """Look at the output of any module.

        Raises:
            _LogitsSeen: All is known. Not in threads that a class starts to generate in.
        """
        whole = getattr(output, "logits", None)
        logits = output if id(module) in self._heads else whole
        if not isinstance(logits, torch.Tensor) or not logits.numel():
            return
        # Of the last position: others may be padding.
        last = logits[..., -1, :] if logits.dim() > 1 else logits
        self.are_nan = self.are_nan or bool(torch.isnan(last).any())
        # After a head the model may still change its logits.
        if (self.are_nan or whole is not None) and threading.get_ident() == self._thread:
            raise _LogitsSeen


def _heads(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The layers of a module that compute logits."""
    for name, part in module.named_modules():
        head = part if name.rpartition(".")[2] == "lm_head" else None
        with contextlib.suppress(Exception):  # a checkpoint's own code
            head = head or part.get_output_embeddings()
        if head is not None:
            yield head


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def _ended_if_hung() -> Iterator[None]:
    """End the process, with its stacks, if the block takes longer than a first question may."""
    if limits := Limits.read(os.environ):
        faulthandler.dump_traceback_later(limits.first, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
