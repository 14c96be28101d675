"""What a run's journal tells of its answers: seconds, worker, tokens, and the token limit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from ..core.manifest import Manifest
from ..core.run_folder import RunPaths
from ..engine.journal_state import JournalState
from .questions import AnswerFacts


def told(paths: RunPaths, manifest: Manifest) -> Mapping[str, Mapping[str, AnswerFacts]]:
    """Return the facts of each answer by benchmark and item.

    Empty for results that were imported or made with ``--plain``.

    Raises:
        EasiError: The journal is damaged.
    """
    epochs = {key: state.epoch for key, state in manifest.benchmarks.items()}
    state = JournalState(paths.journal, epochs, texts=False)
    for _ in state.news():  # not all at once: the texts need hundreds of megabytes
        pass
    found: dict[str, dict[str, AnswerFacts]] = defaultdict(dict)
    for (key, item), answer in state.answers.items():
        found[key][item] = AnswerFacts(
            answer.seconds,
            answer.worker,
            answer.at,
            answer.tokens,
            None if answer.finish is None else answer.finish == "length",
        )
    return found
