"""`make airflow` with recipes that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.run_airflow import check_recipes, environment


def test_a_place_without_recipes_is_refused_before_airflow_starts(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"No folder or recipe .*absent: correct RECIPES"):
        check_recipes(tmp_path / "absent")
    with pytest.raises(SystemExit, match=r"No recipe \(\*\.yaml\) in .*curation init"):
        check_recipes(tmp_path)
    (tmp_path / "birds.yml").write_text("name: birds")
    check_recipes(tmp_path)
    check_recipes(tmp_path / "birds.yml")


def test_a_store_starts_where_make_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stores = {
        "store": str(tmp_path / "store"),
        "/data/store": "/data/store",
        "s3://b/p": "s3://b/p",
    }
    for given, meant in stores.items():
        variables = environment(tmp_path / "home", 8080, tmp_path / "recipes", given)
        assert variables["CURATION_STORE"] == meant
