"""Fixtures that several folders of tests use."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).resolve().parent.parent

# The runs of tests are short: the optimising compiler of the JVM and its threads for garbage cost each
# of them ten seconds of processor, and gain nothing.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
# Several processes of tests share the cores: a thread that spins while it waits for another takes the
# core that the other needs. Without it, tests of k-means take half as much processor time more.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


# No test loses power, and waiting for the disk took as long as the rest of some tests. Tests of the
# order in which files are synced set a function of theirs.
os.fsync = lambda fd: None


LONGEST = (
    "test_web_mini",
    "test_dag",
    "test_quickstart",
    "test_verify",
    "test_schedules",
    "test_grown_hashes",
    "test_cases",
    "test_reruns",
    "test_train",
    "test_why_limits",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files that take longest first, so that parallel processes end at about the same time."""
    position = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: position.get(item.path.stem, len(LONGEST)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that need a GPU where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


@pytest.fixture(scope="session", autouse=True)
def recipes_fit_the_schema() -> Iterator[None]:
    """Whatever recipe a test has parsed, the JSON schema of recipes must accept it too."""
    if find_spec("jsonschema") is None or find_spec("pydantic") is None:
        yield
        return
    from tests.recipe_schema import compared_with_schema

    with compared_with_schema():
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real images and their hidden truth; tests are skipped without it."""
    folder = Path(os.environ.get("CURATION_SHARED", ROOT.parent / "shared"))
    if not (folder / "data" / "web_mini").is_dir():
        pytest.skip(f"no shared data at {folder} (set CURATION_SHARED)")
    return folder


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One local Spark session for all tests of a process."""
    from pyspark.sql import SparkSession

    from curation.engine.cluster import load_cluster
    from curation.engine.spark import open_context

    context = open_context("tests", load_cluster("local"))
    session = SparkSession.builder.getOrCreate()
    yield session
    assert context._jsc is not None, "A test stopped Spark, which tests after it may need"
    session.stop()


@pytest.fixture(scope="session")
def mini_web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory of a run, with the mini-web of the quickstart built and served."""
    from quickstart.build import build
    from quickstart.server import serving

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    folder = tmp_path_factory.mktemp("quickstart")
    out = folder / "data" / "quickstart"
    build(out, port)
    with serving(out, port):
        yield folder
