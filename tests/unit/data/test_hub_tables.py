"""Which files a dataset's card names, as the datasets library would find them."""

from __future__ import annotations

from pathlib import Path

import pytest

from easi_eval.benchmarks import LMMS_EVAL, by_key
from easi_eval.core.errors import EasiError
from easi_eval.data.hub_tables import named_files
from easi_eval.data.lacking import refuse_lacking
from easi_eval.data.needs import Fetched, FileRecord, HubSettings, Need


def written(folder: Path, card: str, *files: str) -> Path:
    (folder / "README.md").write_text(f"---\n{card}\n---\n# words\n")
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


ONE = "configs: [{config_name: default, data_files: [{split: test, path: %s}]}]"


@pytest.mark.parametrize(
    ("card", "found"),
    [
        (ONE % '"data/**/test-*"', {"data/**/test-*": ["data/test-1.parquet"]}),
        (ONE % '["data/test-*", "b/*"]', {"data/test-*": ["data/test-1.parquet"], "b/*": []}),
        (
            "configs: [{default: true, config_name: x, data_files: [{split: test, path: a*}]}]",
            {"a*": []},
        ),
        ("configs: [{config_name: default, data_files: a*}]", None),  # that is split train
        (
            "configs: [{config_name: default, data_dir: d, data_files: [{split: test, path: a*}]}]",
            None,
        ),
        ("configs: [plain, 1]", None),
        ("configs: {default: x}", None),
        ("configs: [{config_name: default, data_files: [{split: test}]}]", None),
        ("configs: [{config_name: default}]", None),
        (ONE % '"hf://datasets/o/r/x.parquet"', None),
        (ONE % '"data/{a,b}.parquet"', None),
        (ONE % '"**.parquet"', None),
        (ONE % '"/data/x"', None),
        ("configs: [", None),
        ("- a", None),
        ("", None),
    ],
)
def test_a_card_is_read_or_left_alone(
    card: str, found: dict[str, list[str]] | None, tmp_path: Path
) -> None:
    said = named_files(written(tmp_path, card, "data/test-1.parquet"), "", "test")
    assert (
        said
        and {
            pattern: [path.relative_to(tmp_path).as_posix() for path in paths]
            for pattern, paths in said.items()
        }
    ) == found


def offline(folder: Path, *files: str) -> None:
    fetched = Fetched(
        Need("data", "some/repo"),
        "1",
        folder,
        1,
        tuple(FileRecord(name, 0, "") for name in files),
        listed=False,
    )
    refuse_lacking(by_key("embspatial").source(LMMS_EVAL), [fetched], HubSettings(offline=True))


def test_of_a_cache_only_what_the_card_surely_names_is_missed(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    split = by_key("embspatial").source(LMMS_EVAL).data.split
    card = (
        f"configs: [{{config_name: default, data_files: [{{split: {split}, path: "
        f"'data/**/t-*'}}]}}, plain]"
    )
    written(tmp_path, card, "data/t-1.parquet")
    pq.write_table(pa.table({"question": ["?"]}), tmp_path / "data" / "t-1.parquet")
    offline(tmp_path, "README.md", "data/t-1.parquet")
    (tmp_path / "data" / "t-1.parquet").unlink()
    with pytest.raises(EasiError, match="of some/repo is not complete"):
        offline(tmp_path, "README.md")
