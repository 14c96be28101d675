"""Inference engines: how to get one without breaking the pinned environment."""

from __future__ import annotations

INSTALLED_BY = {"vllm": "bash scripts/setup.sh --vllm installs it"}


def how_to_get(package: str) -> str:
    """Return the hint for an engine that is not installed.

    Only vLLM can be installed here: a lock file pins it together with torch and transformers.
    """
    return INSTALLED_BY.get(
        package,
        f"{package} cannot be installed here without replacing pinned packages: serve the model "
        f"with {package} from its own environment and use --base-url, or choose a class that runs "
        f"on transformers",
    )
