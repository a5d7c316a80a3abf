"""The parameters that a run of a DAG may set, and where their relative paths start."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from curation.flow import STAGES


def params_of(recipe: str, store: str, cluster: str) -> dict[str, Param]:
    """Return the parameters of a DAG, with their defaults."""
    stages: list[Any] = [None, *STAGES]
    stage = {"type": ["null", "string"], "enum": stages}
    text = {"type": "string", "minLength": 1}
    return {
        "recipe": Param(recipe, "Path of the recipe, a YAML file.", **text),
        "store": Param(store, "Folder or URI of the store.", **text),
        "cluster": Param(cluster, "Name of a file in conf/clusters, or the path of one.", **text),
        "from": Param(None, "The first stage to run.", **stage),
        "until": Param(None, "The last stage to run.", **stage),
        "retry": Param(
            None,
            "Ask again for rows that failed: transient, all, or a reason.",
            type=["null", "string"],
        ),
        "force": Param(False, "Compute again what the stages write.", type="boolean"),
    }


def request_of(context: Any) -> dict[str, Any]:
    """Return the parameters of a run.

    Raises:
        AirflowFailException: the run sets others.
    """
    params = dict(context["params"])
    unknown = sorted(set(context["dag_run"].conf or {}) - set(params_of("", "", "")))
    if unknown:
        raise AirflowFailException(
            f"The run sets {', '.join(unknown)}, which have no effect. Valid: "
            f"{', '.join(params_of('', '', ''))}."
        )
    folder = Path(context["dag"].params["recipe"]).parent
    params["recipe"] = str(folder / params["recipe"])
    return params


def beside(recipe: str | Path) -> contextlib.AbstractContextManager[None]:
    """Have relative paths start at the folder of a recipe within a context, as its job does."""
    folder = Path(recipe).absolute().parent
    return contextlib.chdir(folder) if folder.is_dir() else contextlib.nullcontext()
