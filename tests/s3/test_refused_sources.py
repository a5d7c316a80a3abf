"""Sources and stores on Azure without credentials.

pyarrow raises errors there that are no OSError, and where a file is opened it ends the process.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.errors import RecipeError, StoreError
from curation.media.files.location import open_location
from curation.stages.ingest.recognise.place import place_of
from curation.store.store import Store

from ..runs import run_recipe

ADDRESS = "abfs://container@account.dfs.core.windows.net/lists/web.parquet"


@pytest.fixture(autouse=True)
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a server without TLS and no key: then Azure's library refuses to send any credentials."""
    for name in ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:1/account")


def test_a_source_that_refuses_its_reader_says_so(tmp_path: Path) -> None:
    source: dict[str, object] = {
        "name": "web",
        "role": "pool",
        "format": "parquet",
        "path": ADDRESS,
    }
    source |= {"columns": {"url": "url"}}
    with pytest.raises(StoreError, match=r"'web'.*no file can be listed .*Bearer token"):
        run_recipe({"name": "t", "sources": [source]}, Store(tmp_path / "store"))


def test_pictures_of_a_list_that_refuse_their_reader_are_not_said_to_be_missing(
    tmp_path: Path,
) -> None:
    (tmp_path / "list.csv").write_text("image\na.png\nb.png\n")
    source: dict[str, object] = {
        "name": "web",
        "role": "pool",
        "format": "csv",
        "path": str(tmp_path / "list.csv"),
    }
    source |= {"columns": {"path": "image"}, "root": ADDRESS.rpartition("/")[0]}
    with pytest.raises(RecipeError, match=r"none of the 2 image files .*a\.png.*Bearer token"):
        run_recipe({"name": "t", "sources": [source]}, Store(tmp_path / "store"))


def test_a_place_that_refuses_its_reader_is_no_traceback_of_init() -> None:
    with pytest.raises(RecipeError, match=r"cannot be listed .*Bearer token"):
        place_of(ADDRESS)


def test_a_file_of_a_row_that_refuses_its_reader_is_a_reason() -> None:
    with pytest.raises(OSError, match="Bearer token"):
        open_location(ADDRESS)


def test_a_store_that_refuses_its_reader_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """obstore may have credentials of a kind that pyarrow does not know."""
    monkeypatch.setenv("AZURE_STORAGE_TOKEN", "token")
    with pytest.raises(StoreError, match=r"Cannot open the store .*Bearer token"):
        Store(ADDRESS)
