"""One DAG for each recipe of a folder, named after it; docs/airflow.md says what the variables are."""

import os

from curation.airflow import recipe_dags

globals().update(recipe_dags(os.environ))
