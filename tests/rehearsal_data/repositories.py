"""Tiny data of all 13 benchmarks, for both backends, in the layout of the real repositories."""

from __future__ import annotations

from pathlib import Path

from . import lmms_layout, media_repos, vlmevalkit_layout


def build(root: Path, seed: int = 0) -> None:
    """Write every repository below ``root/datasets/<org>/<name>``, ready for ``hub.start(root)``.

    The same seed gives the same bytes.  Both backends get the same questions and the same media.
    """
    datasets = root / "datasets"
    media_repos.write_vsi_media(datasets / "nyu-visionx/VSI-Bench", seed)
    media_repos.write_site_media(datasets / "franky-veteran/SITE-Bench", seed)
    lmms_layout.build(datasets, seed)
    vlmevalkit_layout.build(datasets, seed)
