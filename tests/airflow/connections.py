"""How a task submits with each Spark connection of a cluster whose file has no master; prints it."""

import json
import os
from pathlib import Path

from airflow.sdk.exceptions import AirflowFailException

from curation.airflow.operator import YARN_CONNECTION, CurationOperator
from curation.engine.cluster import Cluster

IN_CLUSTER = {"conn_type": "spark", "extra": {"deploy-mode": "cluster"}}
CONNECTIONS = {
    "yarn": json.loads(YARN_CONNECTION),
    "yarn_client": {"conn_type": "spark", "host": "yarn", "extra": {"deploy-mode": "client"}},
    "without_mode": {"conn_type": "spark", "host": "yarn"},
    "k8s": IN_CLUSTER | {"host": "k8s://https://api:6443"},
    "k8s_as_type": IN_CLUSTER | {"conn_type": "k8s", "host": "api"},
    "standalone": IN_CLUSTER | {"host": "spark://a:7077"},
}
REQUEST = {
    "recipe": str(Path("a.yaml").absolute()),
    "store": "store",
    "retry": None,
    "force": False,
}


def submitted(name: str) -> dict[str, object]:
    """Return what finds the driver of a task again, and whether the job writes a summary."""
    task = CurationOperator(task_id="ingest", stages=["ingest"], conn_id=name)
    with task._prepared({}, Cluster(), ["ingest"], REQUEST):
        if name == "yarn":
            # It raises for a connection that has not all that it needs.
            task._get_hook()._validate_yarn_track_via_rm_api_config()
        return {
            "yarn": task._yarn_track_via_rm_api,
            "k8s": task._track_driver_via_k8s_api,
            "summary": "--summary" in task.application_args,
        }


for name, connection in CONNECTIONS.items():
    os.environ[f"AIRFLOW_CONN_{name.upper()}"] = json.dumps(connection)
result: dict[str, object] = {name: submitted(name) for name in CONNECTIONS}
try:
    submitted("absent")
except AirflowFailException as error:
    result["absent"] = str(error)
print("RESULT " + json.dumps(result))
