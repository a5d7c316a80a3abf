"""The rates of this machine, however the program that measures them was started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from curation.errors import StoreError
from curation.inspect.cost.calibrate import MEMORY_OF_CORE, MOST_CORES, calibrate, measured_cores
from curation.inspect.cost.rates import Rates, load_yaml

CODE = """
from curation.inspect.cost import calibrate
calibrate.MOST_CORES = 1
print(calibrate.calibrate(seconds=0.001).cpu_gflop)
"""
"""As people write it: nothing keeps a process that imports it from running it."""


def test_calibration_measures_this_machine(tmp_path: Path) -> None:
    rates = calibrate(seconds=0.02)
    measured = rates.model_dump(exclude={"measured_on", "gpu_gflop", "gpu_product_gflop"})
    assert all(value > 0 for value in measured.values())
    path = tmp_path / "rates.yaml"
    path.write_text(yaml.safe_dump(rates.model_dump()))
    assert load_yaml(Rates, path) == rates


@pytest.mark.parametrize("start", ["script", "standard input"])
def test_any_program_can_measure(start: str, root: Path, tmp_path: Path) -> None:
    script = tmp_path / "measure.py"
    script.write_text(CODE, encoding="utf-8")
    source = str(script) if start == "script" else "-"
    done = subprocess.run(
        [sys.executable, "-P", source],
        input=CODE,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0


def test_few_cores_are_measured_where_memory_is_small() -> None:
    assert measured_cores(2, 2**40) == 2
    assert measured_cores(256, 2**40) == MOST_CORES
    assert measured_cores(256, 3 * MEMORY_OF_CORE) == 3
    assert measured_cores(4, MEMORY_OF_CORE // 2) == 1


def test_a_process_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", shutil.which("false"))
    with pytest.raises(StoreError, match="measures a core has ended with exit status 1"):
        calibrate()
