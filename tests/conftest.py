"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real images with hidden truth, where the machine has them."""
    folder = Path(os.environ.get("CURATION_SHARED", ROOT.parent / "shared"))
    if not (folder / "data" / "web_mini").is_dir():
        pytest.skip(f"no shared data at {folder} (set CURATION_SHARED)")
    return folder


@pytest.fixture(scope="session")
def spark():
    """One local Spark session for all tests that share a process."""
    from curation.spark import load_cluster, open_session

    session = open_session("tests", load_cluster("local"))
    yield session
    session.stop()
