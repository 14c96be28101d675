"""What the leaderboard's own guide says: its options, and the commands that it has people paste."""

from __future__ import annotations

import re
from pathlib import Path

# Its 15 options, in its order.
GUIDE_OPTIONS = (
    "--model",
    "--backend",
    "--model-args",
    "--nproc",
    "--benchmarks",
    "--include-extra",
    "--judge",
    "--output-dir",
    "--dataset-dir",
    "--submit",
    "--submission-configs",
    "--rerun",
    "--no-accelerate",
    "--verbose",
    "--no-rich",
)
# Its command blocks by number, word for word.
BLOCKS = {
    int(path.name[0]): path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parent / "data" / "guide").glob("*.sh"))
}


def launches(block: int) -> list[str]:
    """The launches of the program in a block, each as it is pasted."""
    parts = re.split(r"^(?=python scripts/)", BLOCKS[block], flags=re.MULTILINE)
    return [part.partition("\n#")[0] for part in parts if part.startswith("python")]
