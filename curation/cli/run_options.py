"""The options of the commands plan and run."""

from __future__ import annotations

from typing import Annotated

import typer

from curation.cli import help_texts
from curation.cli.completion import complete_cluster, complete_stage
from curation.cli.telemetry_options import METRICS_HELP, OPENLINEAGE_HELP, PARENT_HELP

Only = Annotated[
    str | None,
    typer.Option("--only", help="Run this stage and no other.", autocompletion=complete_stage),
]
First = Annotated[
    str | None,
    typer.Option("--from", help=help_texts.FROM, autocompletion=complete_stage),
]
Until = Annotated[
    str | None,
    typer.Option("--until", help=help_texts.UNTIL, autocompletion=complete_stage),
]
ClusterName = Annotated[
    str,
    typer.Option(
        "--cluster",
        help="Spark cluster to run on: the name of a file in conf/clusters, or a path.",
        autocompletion=complete_cluster,
    ),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="First compare the files that the run will read with their checksums, and set damaged "
        "ones aside: they are computed anew.",
    ),
]
SparkUi = Annotated[
    bool,
    typer.Option(
        "--spark-ui",
        help="Serve Spark's web page on this machine alone, as long as the run goes on, and print its "
        "address.",
    ),
]
RatesPath = Annotated[
    str | None,
    typer.Option(
        "--rates",
        help="With --cost: YAML file of rates, as `curation calibrate` writes it. The default is "
        "conf/costs/rates.yaml.",
    ),
]
PricesPath = Annotated[
    str | None,
    typer.Option(
        "--prices", help="With --cost: YAML file of prices. The default is conf/costs/prices.yaml."
    ),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help=help_texts.NO_WAIT)]
Retry = Annotated[list[str] | None, typer.Option("--retry", help=help_texts.RETRY)]
Force = Annotated[bool, typer.Option("--force", help=help_texts.FORCE)]
Metrics = Annotated[str | None, typer.Option("--metrics", metavar="FILE", help=METRICS_HELP)]
OpenLineage = Annotated[
    str | None, typer.Option("--openlineage", metavar="FILE|URL", help=OPENLINEAGE_HELP)
]
OpenLineageParent = Annotated[
    str | None, typer.Option("--openlineage-parent", metavar="PARENT", help=PARENT_HELP)
]
AssumptionOverrides = Annotated[
    list[str] | None,
    typer.Option(
        "--assume",
        help="With --cost: an assumption, as NAME=NUMBER, such as fetched=0.8. It may be repeated.",
    ),
]
