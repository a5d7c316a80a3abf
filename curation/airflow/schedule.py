"""When the DAGs for new crawls run by time."""

from __future__ import annotations

from collections.abc import Mapping

from airflow.timetables.base import TimeRestriction
from airflow.timetables.trigger import CronTriggerTimetable

from curation.errors import Detail, RecipeError

VARIABLE = "CURATION_CRAWL_SCHEDULE"


def crawl_cron(variables: Mapping[str, str]) -> str:
    """Return the cron expression of CURATION_CRAWL_SCHEDULE; by default once a week.

    Airflow itself notices a mistake only when it plans runs, not when it imports the file.

    Raises:
        RecipeError: it is no cron expression, or none with a next time.
    """
    cron = variables.get(VARIABLE) or "@weekly"
    try:
        CronTriggerTimetable(cron, timezone="UTC").next_dagrun_info(
            last_automated_data_interval=None, restriction=TimeRestriction(None, None, False)
        )
    except ValueError as error:
        fix = "Write a cron expression, as '0 3 * * 1', or @hourly, @daily, @weekly or @monthly"
        message = f"{cron!r} is no cron expression that has a next time ({error})"
        raise RecipeError(Detail(message, VARIABLE, cron, fix=fix)) from error
    return cron
