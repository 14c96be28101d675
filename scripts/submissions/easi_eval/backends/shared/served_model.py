"""A model that servers answer for (``--base-url``): what is known of it before a run."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ...config import RunConfig
from ...core.errors import EasiError
from ...core.model import ModelChoice
from ...core.model_args import literal, unquoted
from ...core.server_urls import on_this_machine
from ...core.suggest import did_you_mean
from ...engine.served import FORMATS, MOST_OPEN, OPEN, TIMEOUT, checked_format

if TYPE_CHECKING:
    from ...engine.served.probe import Found

# Arguments of the client on both backends, with their defaults. The sampling that is 0 here is the
# backend's own.
SAMPLING: Mapping[str, object] = {"max_tokens": 0, "temperature": 0, "top_p": 0}
OTHERS: Mapping[str, object] = {
    "image_format": FORMATS[0],
    "system_prompt": "",
    "num_concurrent": OPEN,
    "timeout": TIMEOUT,
}
WHOLE = ("a whole number, 1 or more", lambda number: number >= 1 and number == int(number))
FITTING: Mapping[str, tuple[str, Callable[[float], bool]]] = {
    "max_tokens": WHOLE,
    "num_concurrent": WHOLE,
    "temperature": ("0 or more", lambda number: 0 <= number < math.inf),
    "top_p": ("above 0, and 1 at most", lambda number: 0 < number <= 1),
    "timeout": ("a number of seconds above 0", lambda number: 0 < number < math.inf),
}


def choose(cfg: RunConfig, cls: str, own: Mapping[str, object], sampling: str) -> ModelChoice:
    """Return the choice for the backend's class of served models.

    Servers that cannot be used are noted; ``check_ready`` refuses a run if none can.

    Args:
        cfg: The run's options.
        cls: The backend's class.
        own: The sampling that the backend gives to such models.
        sampling: The backend's sampling in words, for the plan.

    Raises:
        EasiError: An argument is unknown or has no fitting value, or the servers run different
            engines.
    """
    given = _given(cfg)
    from ...engine.served import probe

    found = _look(cfg.servers, cfg.model)
    folder, files = _readable(cfg, found)
    engine = probe.common_engine(found)
    told = ", ".join(f"{name}={given[name]}" for name in SAMPLING if name in given)
    arguments = {
        "image_format": OTHERS["image_format"],
        **own,
        **given,
        "base_url": cfg.base_url,
        "num_concurrent": max(1, int(str(given.get("num_concurrent", OPEN))) // cfg.nproc),
        "most_concurrent": max(1, MOST_OPEN // cfg.nproc),
        **({"readable": folder} if folder else {}),
    }
    return ModelChoice(
        cfg.model,
        cfg.model,
        cls,
        f"served at {cfg.base_url} ({probe.named(engine)})",
        notes=(
            f"sampling: {f'{told} (--model-args), else ' if told else ''}{sampling}",
            *files,
            *(f"{each.url} cannot be used now: {each.problem}" for each in found if each.problem),
        ),
        arguments=arguments,
        needs_gpu=False,
        served=True,
        server=engine,
    )


def check_ready(cfg: RunConfig) -> None:
    """Ask the servers a text, a picture and two pictures.

    Raises:
        EasiError: No server answers all of them, or one refuses some; with the servers' words.
    """
    from ...engine.served import pool, probe

    pool.patience()
    looked = _look(cfg.servers, cfg.model)
    alive = [each.url for each in looked if not each.problem]
    asked = probe.try_questions(alive, cfg.model)
    problems = [f"{each.url}: {each.problem}" for each in (*looked, *asked) if each.problem]
    # A server that cannot be reached may come back; one that refuses would fail its questions.
    if len(problems) == len(cfg.servers) or any(each.refuses for each in asked):
        raise EasiError(
            f"--base-url: {'; '.join(problems)}",
            hint=f"name only servers of {cfg.model} that take images, or start one; "
            "scripts/docs/engines.md has the command",
        )


@functools.lru_cache(maxsize=1)  # ``choose`` and ``check_ready`` ask moments apart
def _look(servers: tuple[str, ...], model: str) -> Sequence[Found]:
    from ...engine.served import probe  # loads the HTTP client, which takes a while

    return probe.look(servers, model)


def _readable(cfg: RunConfig, found: Sequence[Found]) -> tuple[str, tuple[str, ...]]:
    """Return the data folder if the servers read its pictures, and what to say of it."""
    folder = cfg.dataset_dir.absolute().resolve()
    here = cfg.kind.takes_dataset_dir and all(map(on_this_machine, cfg.servers))
    if not here or any(each.problem for each in found):
        return "", ()
    from ...engine.served import probe

    if folder.is_dir() and probe.reads_files(cfg.servers, cfg.model, folder):
        return str(folder), (f"the servers read the images in {folder} themselves (file://)",)
    told = f"with vLLM's --allowed-local-media-path {folder} they would read the files themselves"
    return "", (f"images are sent to the servers as data: {told}",)


def _given(cfg: RunConfig) -> dict[str, object]:
    """Return the model arguments with their types.

    Raises:
        EasiError: One is unknown, or does not fit.
    """
    known = {**SAMPLING, **OTHERS}
    given: dict[str, object] = {}
    for name, value in cfg.model_arguments.items():
        if name not in known:
            raise EasiError(
                f"--model-args: the client of --base-url takes no {name}=",
                hint=did_you_mean(name, known, f"it takes {', '.join(known)}"),
            )
        given[name] = _number(name, value) if name in FITTING else unquoted(value)
    if "image_format" in given:
        given["image_format"] = checked_format(str(given["image_format"]))
    return given


def _number(name: str, value: str) -> float:
    number, (fitting, fits) = literal(value), FITTING[name]
    if isinstance(number, bool) or not isinstance(number, int | float) or not fits(number):
        raise EasiError(f"--model-args {name}={value}", hint=f"it is {fitting}")
    return number
