"""The plan's lines on what would be downloaded."""

from __future__ import annotations

from easi_eval.data.forecast import forecast
from easi_eval.data.needs import Need, Size

HUB = "https://hub.example"
TABLE, MEDIA, OTHER, WEIGHTS = (Need(name, f"org/{name}") for name in ("table", "media", "other", "weights"))


def test_each_benchmark_has_a_line_and_what_two_share_counts_once() -> None:
    media = Size(MEDIA, 4_000_000_000, 1_000_000_000, 3_000_000_000, HUB)
    lines = forecast({"vsi_bench": [Size(TABLE, 200_000_000, 200_000_000, 0, HUB), media],
                      "vsi_debiased": [Size(OTHER, 5_000_000, 5_000_000, 0, "the last fetch"), media],
                      "model": [Size(WEIGHTS, 16_600_000_000, 0, 0, HUB)]})
    assert lines == [
        f"vsi_bench: 4.2 GB, 3.0 GB of it to download from {HUB}; 3.0 GB of archives to unpack",
        "vsi_debiased: 5.0 MB, all here (by the last fetch); the rest as for vsi_bench",
        f"model: 16.6 GB, 16.6 GB of it to download from {HUB}",
        "in all: 19.6 GB to download, 3.0 GB to unpack",
    ]


def test_a_size_nobody_can_tell_is_unknown_and_never_zero() -> None:
    lines = forecast({"blink": [Size(TABLE, None, 1_000_000, 0, "the cache"), Size(OTHER, None, 0, 0, HUB, "the hub cannot be reached")]})
    assert lines == ["blink: org/table: size unknown, 1.0 MB here; org/other: size unknown (the hub cannot be reached)",
                     "in all: at least 0.0 MB to download"]
