"""Manifests of C2PA in fetched pictures: their rows, and what is requested for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curation.engine.cluster import Cluster
from curation.errors import RecipeError, StoreError
from curation.flow import plan
from curation.inspect.check.check import check_recipe
from curation.launch import run_steps
from curation.media.pictures.metadata import content_credentials
from curation.media.web.params import MANIFEST_SIGNALS
from curation.recipe import parse_recipe
from curation.store.store import Store
from tests.fetch.conftest import Web
from tests.fetch.helpers import encoded, fetched, picture, served
from tests.ingest.helpers import source, write
from tests.pictures.signing import assertion, signed

PLAIN = encoded(picture())


def test_no_manifest_on_the_web_is_requested(web: Web, tmp_path: Path) -> None:
    content = signed(PLAIN, assertions=[assertion()], address=web.url("/manifest.c2pa"))
    url = served(web, content)
    params: dict[str, Any] = {"keep_metadata": ["training_mining"]}
    params |= {"opt_out_signals": list(MANIFEST_SIGNALS)}
    (row,) = fetched(tmp_path, [url], **params)
    assert (row["reason"], row["kept_metadata"], row["has_c2pa"]) == (None, None, True)
    assert not [visit for visit in web.requests if "c2pa" in str(visit)]


def test_rows_have_what_manifests_say(web: Web, tmp_path: Path) -> None:
    forbidden = served(web, signed(PLAIN, assertions=[assertion()]))
    plain = served(web, PLAIN)
    params = {"keep_metadata": ["training_mining"], "opt_out_signals": ["training_mining"]}
    first, second = fetched(tmp_path, [forbidden, plain], **params)
    assert (first["status"], first["reason"]) == ("failed", "opted_out_training_mining")
    assert first["image"] is None and first["sha256"]
    assert first["kept_metadata"] == '{"training_mining": "cawg.ai_training=notAllowed"}'
    assert (second["status"], second["kept_metadata"]) == ("ok", None)


@pytest.mark.parametrize("field", ["keep_metadata", "opt_out_signals"])
def test_without_the_package_a_run_ends_before_any_work(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "list.parquet", [{"url": "http://127.0.0.1/a.jpg", "caption": "c"}])
    fields = {"name": "test", "sources": [source(path)], "fetch": {field: ["training_mining"]}}
    recipe, store = parse_recipe(fields), Store(tmp_path / "store")
    monkeypatch.setattr(content_credentials, "find_spec", lambda _: None)
    with pytest.raises(RecipeError, match=r"pip install 'curation\[c2pa\]'") as raised:
        run_steps(plan(recipe, until="fetch"), recipe, store, Cluster())
    (detail,) = raised.value.details
    assert (detail.where, detail.found) == (f"fetch.{field}", "training_mining")
    assert not store.storage.files("", recursive=True)
    assert str(detail) in check_recipe(recipe).problems
    # Other steps need no such package.
    with pytest.raises(StoreError):
        run_steps(plan(recipe)[2:3], recipe, store, Cluster())
