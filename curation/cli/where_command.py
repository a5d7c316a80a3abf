"""The command that prints where the package keeps its folders."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from curation.cli.app import RUN_PANEL, app, out
from curation.engine.resources import resource_dir

Place = Literal["jobs", "airflow_dags", "conf", "schemas", "docs", "java"]


@app.command(rich_help_panel=RUN_PANEL)
def where(
    place: Annotated[
        Place,
        typer.Argument(
            metavar="PLACE",
            help="jobs for spark-submit, DAG files for Airflow, conf with recipes, clusters and costs, "
            "schemas of the tables, docs, or the JAVA_HOME that runs take.",
        ),
    ],
) -> None:
    """Print where the installed package keeps a folder, for other programs.

    For example: JAVA_HOME=$(curation where java) spark-submit $(curation where jobs)/run.py --help
    """
    if place == "java":
        from curation.engine.java import java_home

        out.print(str(java_home()))
    else:
        out.print(str(resource_dir(place)))
