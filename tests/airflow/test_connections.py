"""Which drivers in a cluster are found again after a worker of Airflow was lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_driver_in_a_cluster_is_found_again_and_writes_no_summary_here(
    in_airflow: Callable[..., str],
) -> None:
    printed = in_airflow(str(Path(__file__).with_name("connections.py")))
    (line,) = (x for x in printed.splitlines() if x.startswith("RESULT "))
    result: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    absent = result.pop("absent")
    assert result == {
        "yarn": {"yarn": True, "k8s": False, "summary": False},
        "yarn_client": {"yarn": False, "k8s": False, "summary": True},
        "without_mode": {"yarn": False, "k8s": False, "summary": True},
        "k8s": {"yarn": False, "k8s": True, "summary": False},
        "k8s_as_type": {"yarn": False, "k8s": True, "summary": False},
        # The provider always asks a standalone master.
        "standalone": {"yarn": False, "k8s": False, "summary": False},
    }
    assert "no Spark connection 'absent'" in absent
    assert "yarn_resourcemanager_webapp_address" in absent
