"""scripts/docs/models.md against the registries and the families that are proven."""

from __future__ import annotations

from pathlib import Path

from easi_eval.backends.shared import catalog
from easi_eval.backends.vlmevalkit.families import FAMILIES
from easi_eval.core.backend_facts import BACKEND_FACTS
from easi_eval.core.profiles import BASE, NEWER, image_text_types
from proven_families import OWN, PICTURES_ONLY, PROVEN

REPOSITORY = Path(__file__).resolve().parents[2]
HEAD = "| `model_type` | transformers | VLMEvalKit | lmms-eval | native video | state |"


def rows() -> list[str]:
    """The rows of the table: the types that transformers loads for images and text."""
    base, newer = image_text_types(BASE).keys(), image_text_types(NEWER).keys()
    types = catalog.lmms_models(catalog.locate(BACKEND_FACTS["lmms-eval"])).models
    found = []
    for kind in sorted(base | newer):
        proven = kind in PROVEN[BASE] + PROVEN[NEWER]
        own = f"**`{kind}`**" if kind in OWN else f"`{kind}`"
        cells = [
            f"`{kind}`",
            "4" if kind in base else "5",
            FAMILIES[kind].cls if kind in FAMILIES else "generic",
            f"`easi_vlm`, {own}" if kind in types else "`easi_vlm`",
            ("no" if kind in PICTURES_ONLY else "yes") if proven else "",
            "**proven**" if proven else "loads, unproven",
        ]
        found.append(f"| {' | '.join(cells)} |")
    return found


def test_the_table_of_families_is_what_the_registries_say() -> None:
    text = (REPOSITORY / "scripts" / "docs" / "models.md").read_text(encoding="utf-8")
    lines = text[text.index(HEAD) :].splitlines()[2:]
    assert lines == rows(), "\n".join(rows())


def test_every_proven_family_is_loaded_by_the_profile_that_proves_it() -> None:
    base, newer = image_text_types(BASE).keys(), image_text_types(NEWER).keys()
    assert set(PROVEN[BASE]) <= base & newer and len(PROVEN[BASE]) >= 5
    assert set(PROVEN[NEWER]) <= newer - base and len(PROVEN[NEWER]) >= 5
