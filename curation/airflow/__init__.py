"""DAGs for Airflow 3: one for each recipe, whose tasks share Spark sessions.

    from curation.airflow import curation_dag

    birds = curation_dag("birds", recipe="/data/birds.yaml", store="s3://bucket/birds")

Airflow reads DAG files again and again, so of curation these modules import only what plans a recipe.
The stages run under spark-submit, in the project's environment. See docs/airflow.md.
"""

from curation.airflow.dags import curation_dag, dataset_asset
from curation.airflow.recipe_folder import recipe_dags
from curation.airflow.schedule import crawl_cron
from curation.airflow.telemetry import Telemetry

__all__ = ["Telemetry", "crawl_cron", "curation_dag", "dataset_asset", "recipe_dags"]
