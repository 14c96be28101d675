"""A model's files: a folder or a repository of the hub, and its ``config.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ...core.errors import EasiError, Unreachable
from ...data.model_file import fetch_model_file
from ...data.needs import HubSettings, Need
from . import references
from .adapter_folder import Adapter, bare_adapter, base_of
from .folder_digest import folder_revision
from .model_paths import check_folder, is_hub_id, model_name, model_path

OTHER_FORMATS = (
    "*.gguf",
    "*.h5",
    "*.msgpack",
    "*.onnx",
    "*.pth",
    "original/*",
    "onnx/*",
    "openvino/*",
)


def weights_need(repo: str, revision: str = "") -> Need:
    """Return the need for a checkpoint of the hub, without the formats of other frameworks."""
    return Need(
        f"model {repo}", repo, revision=revision or "main", repo_type="model", ignore=OTHER_FORMATS
    )


def revision(paths: Iterable[str], asked: str = "") -> str:
    """Return the value of ``ModelChoice.revision``.

    It is the digest of those ``paths`` that are folders, else the revision that was ``asked`` for.
    """
    return "+".join(folder_revision(Path(path)) for path in paths if Path(path).is_dir()) or asked


def files_of(model: str, hub: HubSettings, revision: str = "") -> Path | None:
    """Return the folder with a checkpoint's small files, without asking the hub.

    It is the model's own folder, or the one in the hub's cache that holds its ``config.json`` or
    ``adapter_config.json``; None if neither is there.
    """
    if Path(model).is_dir():
        return Path(model)
    for name in (references.CONFIG, references.ADAPTER) if is_hub_id(model) else ():
        with suppress(EasiError):
            return fetch_model_file(replace(hub, offline=True), model, name, revision).parent
    return None


def configs(
    model: str, hub: HubSettings, revision: str = ""
) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the configs of a checkpoint, its tokenizer's and its processor's, each with its name.

    Args:
        model: A folder or a hub id.
        hub: The hub or its cache, for a hub id; a file that cannot be had is taken for missing.
        revision: The revision on the hub.
    """
    folder = Path(model_path(model))
    for name in references.FILES:
        path = folder / name
        try:
            path = path if folder.is_dir() else fetch_model_file(hub, model, name, revision)
        except Unreachable:
            hub = replace(hub, offline=True)
        except EasiError:  # it has no such file
            pass
        yield name, references.read_object(path)


def chat_template(model: str, hub: HubSettings, revision: str = "") -> str:
    """Return the text of a checkpoint's chat templates; "" if none can be had.

    The arguments are those of ``configs``.
    """
    folder, name = Path(model_path(model)), "chat_template.jinja"
    with suppress(EasiError, OSError, UnicodeDecodeError):
        path = folder / name
        path = path if folder.is_dir() else fetch_model_file(hub, model, name, revision)
        return path.read_text(encoding="utf-8")
    held = [config.get("chat_template") for _, config in configs(model, hub, revision)]
    return "\n".join(str(each) for each in held if each)


def model_config(model: str, hub: HubSettings, revision: str = "") -> dict[str, object] | None:
    """Return a checkpoint's ``config.json``; for an adapter without one, that of its base.

    Args:
        model: A folder or a hub id; None is returned for anything else.
        hub: The hub or its cache, for a hub id.
        revision: The revision on the hub.

    Raises:
        EasiError: If a folder has no readable ``config.json``, or the hub refuses the model.
    """
    folder = Path(model_path(model))
    if not folder.is_dir() and not is_hub_id(model):
        return None
    if not folder.is_dir():
        try:
            return _config(fetch_model_file(hub, model, references.CONFIG, revision))
        except Unreachable:
            raise
        except EasiError as error:
            try:
                folder = fetch_model_file(hub, model, references.ADAPTER, revision).parent
            except EasiError:
                raise error from None
    else:
        check_folder(folder)
    adapter = bare_adapter(folder)
    return (
        _config(folder / references.CONFIG)
        if adapter is None
        else _base_config(model, adapter, hub)
    )


def _base_config(model: str, adapter: Adapter, hub: HubSettings) -> dict[str, object] | None:
    """Return the ``config.json`` of an adapter's base."""
    base = base_of(adapter)
    try:
        return model_config(base, hub)
    except EasiError as error:
        raise EasiError(
            f"{model_name(model)} is an adapter of {base}: {error.message}", hint=error.hint
        ) from error


def _config(path: Path) -> dict[str, object]:
    wrong: object = "no JSON object"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
    except (OSError, ValueError) as error:
        wrong = error
    raise EasiError(
        f"{path} cannot be read ({wrong})",
        hint="a model folder holds a config.json; is it complete?",
    )
