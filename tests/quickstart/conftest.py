"""One mini-web for all tests of this folder: building it takes seconds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from quickstart.build import build

ROOT = Path(__file__).resolve().parents[2]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def free_port() -> int:
    return _free_port()


@pytest.fixture(scope="session")
def port() -> int:
    return _free_port()


@pytest.fixture(scope="session")
def out(tmp_path_factory: pytest.TempPathFactory, port: int) -> Path:
    folder = tmp_path_factory.mktemp("mini_web") / "quickstart"
    build(folder, port)
    return folder


@pytest.fixture(scope="session")
def truth(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "truth.parquet")


@pytest.fixture(scope="session")
def pool(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "pool")


@pytest.fixture(scope="session")
def quickstart() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m quickstart` with arguments and environment variables."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "quickstart", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run
