"""What an exception of a model means for the process, and the memory that it holds."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Sequence

# Errors that every later call of a process raises too: torch's for the device (illegal access,
# assert, lost GPU; out of memory is another type and not lasting), and vLLM's for an engine whose
# own process has died.
LASTING = frozenset(
    {"AcceleratorError", "EngineDeadError", "MQEngineDeadError", "AsyncEngineDeadError"}
)


def is_lasting(error: Exception) -> bool:
    """Whether every later call of this process would raise this error too."""
    return any(kind.__name__ in LASTING for kind in type(error).__mro__)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error is torch's OutOfMemoryError, recognised by its class name."""
    return any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)


def free_memory(raised: Sequence[Exception]) -> None:
    """Free the device memory that failed calls still hold.

    The frames in the tracebacks refer to the tensors of the call.
    """
    for error in raised:
        known: list[BaseException] = []
        link: BaseException | None = error
        while link is not None and link not in known:
            known.append(link)
            traceback.clear_frames(link.__traceback__)
            link.__traceback__ = None
            link = link.__cause__ or link.__context__
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
