"""For each recipe of a folder a second DAG, `<recipe>-crawl`, which runs when there are new lists.

It runs by time (CURATION_CRAWL_SCHEDULE, a cron expression, by default once a week) and after each
event of the asset `crawl-<recipe>`, which whoever writes the lists of URLs emits. It starts paused:
nothing is fetched by time before somebody has switched it on.
"""

import os

from airflow.sdk import Asset, AssetOrTimeSchedule, CronTriggerTimetable

from curation.airflow import crawl_cron, recipe_dags

SUFFIX, CRON = "-crawl", crawl_cron(os.environ)


def new_lists(name: str) -> AssetOrTimeSchedule:
    """Return when a DAG runs."""
    lists = Asset(f"crawl-{name.removesuffix(SUFFIX)}")
    return AssetOrTimeSchedule(timetable=CronTriggerTimetable(CRON, timezone="UTC"), assets=[lists])


globals().update(recipe_dags(os.environ, SUFFIX, schedule=new_lists, is_paused_upon_creation=True))
