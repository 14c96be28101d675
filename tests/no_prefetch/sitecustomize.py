"""For benchmarks only: on PYTHONPATH it lets workers prepare each prompt when it is asked for."""

from __future__ import annotations

from easi_eval.engine.prefetch import Prefetcher


def prepare(self: object, asked: object, upcoming: object) -> None:
    pass


Prefetcher.prepare = prepare
