"""Under Airflow's scheduler, a run whose processes are killed goes on to its end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.object_store.server import UnavailableError
from curation.engine.table import open_table
from curation.store.run_log import read_runs
from curation.store.store import Store

from .postgres import serving_postgres
from .scheduler import Scheduler, need_airflow, wait_for

DONE = {"ingest-fetch": "success", "screen-assemble": "success"}
# Airflow looks for tasks of a scheduler that is gone every five minutes.
SOON = {"AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5"}


def states(tasks: dict[str, tuple[str, int]]) -> dict[str, str]:
    """Return the states of tasks."""
    return {task: state for task, (state, _) in tasks.items()}


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    """Airflow with one DAG, of a small recipe."""
    need_airflow()
    scheduler = Scheduler(tmp_path)
    scheduler.write_dag()
    with scheduler.running():
        yield scheduler


@pytest.fixture
def on_postgres(tmp_path: Path) -> Iterator[Scheduler]:
    """The same with its metadata in PostgreSQL; the test starts it."""
    need_airflow()
    try:
        with serving_postgres() as database:
            place = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.address}
            scheduler = Scheduler(tmp_path, place, database.rows)
            scheduler.write_dag()
            yield scheduler
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.mark.nightly
def test_a_run_whose_worker_and_driver_are_killed_goes_on(scheduler: Scheduler) -> None:
    wait_for(scheduler.trigger)
    # The driver goes on without its worker, so that the next attempt meets it at work. Airflow has
    # noted nothing by which it could find it again: the lease of the store decides.
    worker = scheduler.driver("ingest-fetch").parent()
    assert worker is not None
    worker.send_signal(signal.SIGKILL)
    scheduler.driver("screen-assemble").send_signal(signal.SIGKILL)
    tasks = scheduler.ended()
    assert tasks == {"ingest-fetch": ("success", 2), "screen-assemble": ("success", 2)}
    dataset = open_table(Store(scheduler.store), "dataset")
    assert dataset.rows > 20
    runs = list(read_runs(Store(scheduler.store)))
    assert runs[0].state == "finished"
    # No stage was computed twice: the second attempt took what the first had committed.
    versions = {v for record in runs for t, v in record.tables.items() if t == "images"}
    assert len(versions) == 1


@pytest.mark.nightly
@pytest.mark.timeout(1500)
def test_with_its_metadata_in_postgresql_a_killed_scheduler_goes_on(on_postgres: Scheduler) -> None:
    store = Store(on_postgres.store)
    with on_postgres.running():
        assert states(on_postgres.run()) == DONE
        dataset = open_table(store, "dataset")
        assert dataset.rows > 20
        # Slots that somebody has set stay.
        assert on_postgres.query is not None
        on_postgres.query("update slot_pool set slots = 4 where pool = 'curation_gpu'")
        # Again: nothing is computed.
        assert states(on_postgres.run()) == DONE
        assert open_table(store, "dataset").manifest.version == dataset.manifest.version
        wait_for(lambda: on_postgres.trigger(force=True))
        on_postgres.driver("ingest-fetch")
        on_postgres.kill_scheduler()
    on_postgres.variables = {**on_postgres.variables, **SOON}
    with on_postgres.running():
        assert states(on_postgres.ended()) == DONE
        slots = on_postgres.query("select slots from slot_pool where pool = 'curation_gpu'")
        assert slots == [("4",)]
    assert open_table(store, "dataset").rows == dataset.rows
    # All of it is in PostgreSQL.
    assert not (on_postgres.home / "airflow.db").exists()
