"""Runs the DAG in Airflow's environment; prints its edges and the state of each task as JSON."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "airflow_dags"))

from importlib.util import module_from_spec, spec_from_file_location

path = Path(__file__).resolve().parents[2] / "airflow_dags" / "curation.py"
spec = spec_from_file_location("curation_dag", path)
assert spec is not None and spec.loader is not None
assert spec is not None and spec.loader is not None
module = module_from_spec(spec)
spec.loader.exec_module(module)
dag = module.dag
edges = sorted([t.task_id, d] for t in dag.tasks for d in t.downstream_task_ids)
states = {}
if "--run" in sys.argv:
    run = dag.test()
    states = {i.task_id: str(i.state) for i in run.get_task_instances()}
print("RESULT " + json.dumps({"edges": edges, "states": states}))
