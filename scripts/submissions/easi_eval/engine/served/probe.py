"""Tries servers before a run: which of them serve the model, and what they answer with."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ...core.errors import EasiError, ServersGone
from .http_server import CONNECT_SECONDS, HttpServer
from .pictures import picture_url
from .replies import NoAnswer, Refused, ServerBusy, ServerDown

PROBE_SECONDS = 30.0  # for each of the questions before a run
MOST_NAMED = 8
OWNERS = frozenset({"vllm", "sglang", "lmdeploy", "llamacpp", "transformers"})
SIZE = (224, 224)


@dataclass(frozen=True)
class Found:
    """What was learnt about a server.

    Attributes:
        url: Its base URL.
        problem: Why it cannot be used; empty if it can.
        refuses: It lives, and would refuse questions of a run.
        engine: The engine's name and version; {} if unknown.
    """

    url: str
    problem: str = ""
    refuses: bool = False
    engine: Mapping[str, str] = field(default_factory=dict)


def look(urls: Sequence[str], model: str, seconds: float = PROBE_SECONDS) -> list[Found]:
    """Ask each server for its models and its version; nothing is generated."""
    return _each(urls, lambda url: _look(url, model, seconds))


def try_questions(urls: Sequence[str], model: str, seconds: float = PROBE_SECONDS) -> list[Found]:
    """Ask each server a text, a question on a picture, and one on two pictures."""
    return _each(urls, lambda url: _try(url, model, seconds))


def _each(urls: Sequence[str], what: Callable[[str], Found]) -> list[Found]:
    with ThreadPoolExecutor(max(1, len(urls))) as pool:
        return list(pool.map(what, urls))


def _look(url: str, model: str, seconds: float) -> Found:
    server = HttpServer(url, seconds)
    try:
        models = server.models()
    except (ServerDown, ServerBusy, RuntimeError, TimeoutError, ServersGone) as error:
        return Found(url, str(error))
    if model not in models:
        names = list(models)
        more = f" and {len(names) - MOST_NAMED} others" if len(names) > MOST_NAMED else ""
        served = ", ".join(names[:MOST_NAMED]) + more
        return Found(url, f"it serves {served or 'no model'}, and no {model}")
    owner = models[model].lower()
    return Found(url, engine=server.engine(owner if owner in OWNERS else ""))


def _try(url: str, model: str, seconds: float) -> Found:
    """Ask all three at once: a server that is silent costs the time of one."""
    server = HttpServer(url, seconds)
    colours = [picture_url(Image.new("RGB", SIZE, colour)) for colour in ("red", "blue")]
    questions = {
        "a text": _payload(model),
        "a picture": _payload(model, *colours[:1]),
        "two pictures": _payload(model, *colours),
    }

    def ask(payload: Mapping[str, Any]) -> Exception | None:
        try:
            server.ask(payload)
        except (NoAnswer, ServerBusy):  # a model that thinks first says nothing in so few tokens
            return None
        except (ServerDown, RuntimeError, TimeoutError, ServersGone) as error:
            return error
        return None

    with ThreadPoolExecutor(len(questions)) as pool:
        problems = zip(questions, pool.map(ask, questions.values()), strict=True)
    for name, error in problems:
        if error:
            refuses = not isinstance(error, ServerDown | TimeoutError)
            return Found(url, f"asked about {name}: {error}", refuses)
    return Found(url)


def reads_files(urls: Sequence[str], model: str, folder: Path) -> bool:
    """Return whether all servers read picture files of a folder that are named to them.

    Each is asked about a file that was just made, which it must answer, and about one that does not
    exist, which it must refuse: another server ignores such pictures.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".easi-", suffix=".png") as file:
            Image.new("RGB", SIZE, "red").save(file, format="PNG")
            file.flush()
            path = Path(file.name).resolve()
            path.chmod(0o644)  # the server may be another user's
            pictures = [path.as_uri(), path.with_suffix(".none.png").as_uri()]
            asked = [(url, picture) for url in urls for picture in pictures]
            with ThreadPoolExecutor(len(asked)) as pool:
                told = list(pool.map(lambda pair: _refuses(pair[0], model, pair[1]), asked))
    except OSError:
        return False
    return told == [False, True] * len(urls)


def _refuses(url: str, model: str, picture: str) -> bool | None:
    """Return whether the server refuses a picture; None if that is not known."""
    try:
        HttpServer(url, CONNECT_SECONDS).ask(_payload(model, picture))
    except Refused:
        return True
    except NoAnswer:
        return False
    except (ServerBusy, ServerDown, RuntimeError, TimeoutError, ServersGone):
        return None
    return False


def _payload(model: str, *pictures: str) -> dict[str, Any]:
    content = [
        {"type": "text", "text": "Answer with the letter A."},
        *({"type": "image_url", "image_url": {"url": url}} for url in pictures),
    ]
    return {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 16,
        "temperature": 0,
    }


def common_engine(found: Sequence[Found]) -> dict[str, str]:
    """Return the engine of all servers that can be used and tell it; {} if none does.

    Raises:
        EasiError: They differ.
    """
    engines = [dict(each.engine) for each in found if each.engine and not each.problem]
    if any(engine != engines[0] for engine in engines):
        told = "; ".join(f"{each.url}: {named(each.engine)}" for each in found if each.engine)
        raise EasiError(
            f"--base-url names servers of different engines ({told})",
            hint="name only servers of one engine and version",
        )
    return engines[0] if engines else {}


def named(engine: Mapping[str, str]) -> str:
    """Return an engine in words."""
    return ", ".join(f"{name} {version}" for name, version in engine.items()) or "engine unknown"
