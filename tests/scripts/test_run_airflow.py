"""`make airflow` with recipes that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.run_airflow import check_recipes


def test_a_place_without_recipes_is_refused_before_airflow_starts(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"No folder or recipe .*absent: correct RECIPES"):
        check_recipes(tmp_path / "absent")
    with pytest.raises(SystemExit, match=r"No recipe \(\*\.yaml\) in .*curation init"):
        check_recipes(tmp_path)
    (tmp_path / "birds.yml").write_text("name: birds")
    check_recipes(tmp_path)
    check_recipes(tmp_path / "birds.yml")
