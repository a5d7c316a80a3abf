"""Reads the DAG files in Airflow's environment, runs what the argument asks for, and prints JSON.

The argument is a JSON list of [DAG, conf of a run]. The last line has the DAGs with their edges, the
import errors, and for each run the states, the returned values and the events of assets.
"""

import json
import os
import sys
from datetime import timedelta
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetEvent
from airflow.models.xcom import XComModel
from airflow.sdk import Param
from airflow.sdk.exceptions import ParamValidationError
from airflow.utils.session import create_session
from sqlalchemy import select

from curation.airflow.dags import RETRIES


def in_seconds(value: Any) -> Any:
    """Return a time in seconds, and other values as they are."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def refuses(param: Param, value: Any) -> bool:
    """Whether a run that sets a parameter to a value is refused."""
    try:
        param.resolve(value)
    except ParamValidationError:
        return True
    return False


def assets_of(condition: Any) -> list[str]:
    """Return the names of the assets whose events start a DAG."""
    return [asset.name for asset in condition.objects] if condition else []


bag = DagBag(dag_folder=os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
dags = {
    name: {
        "tasks": [task.task_id for task in dag.topological_sort()],
        "edges": sorted([t.task_id, d] for t in dag.tasks for d in t.downstream_task_ids),
        "pools": {task.task_id: task.pool for task in dag.tasks},
        "params": {name: param.value for name, param in dag.params.items()},
        "schedule": type(dag.timetable).__name__,
        "started_by": assets_of(dag.timetable.asset_condition),
        "paused": dag.is_paused_upon_creation,
        "max_active_runs": dag.max_active_runs,
        "retries": {
            task.task_id: {name: in_seconds(getattr(task, name)) for name in RETRIES}
            for task in dag.tasks
        },
        "refuse_a_number": [name for name, param in dag.params.items() if refuses(param, 7)],
    }
    for name, dag in bag.dags.items()
}


def run(name: str, conf: dict[str, Any]) -> dict[str, Any]:
    """Run a DAG once."""
    dag_run = bag.dags[name].test(run_conf=conf)
    tasks = dag_run.get_task_instances()
    with create_session() as session:
        chosen = (XComModel.run_id == dag_run.run_id, XComModel.key == "return_value")
        values = {
            x.task_id: XComModel.deserialize_value(x)
            for x in session.scalars(select(XComModel).where(*chosen))
        }
        events = session.scalars(
            select(AssetEvent).where(AssetEvent.source_run_id == dag_run.run_id)
        )
        return {
            "states": {task.task_id: str(task.state) for task in tasks},
            "values": values,
            "events": [event.extra for event in events],
        }


result = {
    "dags": dags,
    "import_errors": dict(bag.import_errors),
    "runs": [run(name, conf) for name, conf in json.loads(sys.argv[1])],
}
print("RESULT " + json.dumps(result))
