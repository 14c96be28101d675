"""What is true of each backend before anything is asked of it: cheap enough for the parser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """``package`` is imported, ``distribution`` is installed; ``folder`` is the backend's project in this repository."""

    name: str                   # as given to ``--backend``
    package: str
    distribution: str
    folder: str
    needs_model_args: bool      # the guide: "Required for lmms-eval"
    takes_judge: bool           # the guide: "ignored for lmms-eval"
    takes_no_accelerate: bool
    takes_dataset_dir: bool
    takes_vsi_input: bool
    takes_no_corrections: bool


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("vlmevalkit", "vlmeval", "ms-vlmeval", "VLMEvalKit", needs_model_args=False, takes_judge=True,
             takes_no_accelerate=False, takes_dataset_dir=True, takes_vsi_input=True, takes_no_corrections=False),
        Kind("lmms-eval", "lmms_eval", "lmms-eval", "lmms-eval", needs_model_args=True, takes_judge=False,
             takes_no_accelerate=True, takes_dataset_dir=False, takes_vsi_input=False, takes_no_corrections=True),
    )
}
