"""gc removes only what curation wrote, and only where it knows what is needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation.cli import app
from curation.engine.iceberg import close
from curation.errors import StoreError
from curation.runner.gc.restore import tag_run
from curation.runner.takedown.close import delete_reports
from curation.store.layout import is_written_here
from curation.store.step_log import Waiting
from curation.store.store import Store
from curation.store.verification import verify_store
from curation.store.work_folder import WorkFolder

from .conftest import TwoRuns
from .helpers import digest_of, gc

OTHERS = (
    "logs/train.log",
    "logs/20260101T000000.000000Z-abcdef.log.gz",
    "reports/q3/report.html",
    "reports/2026.pdf",
    "dataset/README.md",
    "dataset/raw/part-00000.parquet",
    "dataset/raw/a/b.parquet",
    "tables/results/data/t.csv",
    "tables/images/data/mine.parquet",
    "tables/images/versions/notes.parquet",
    "tables/images/done/notes.json",
    "tables/claims/keys/k.json",
    "work/thesis.tex",
    "work/2026/a.txt",
    "work/verify/done/b.json",
    "work/half.tmp",
    "steps/notes.md",
    "steps/gc/notes.md",
    "open/birds/images/notes.md",
    "open/birds/images/metadata/snap-1.avro",
    "runs/notes.txt",
    "probe-1",
    "a.tmp",
)
"""Files of people in the folders of a store."""


def put_others(store: Path) -> dict[str, str]:
    """Write such files, long ago; return their checksums."""
    for path in OTHERS:
        (store / path).parent.mkdir(parents=True, exist_ok=True)
        (store / path).write_text(path)
        os.utime(store / path, (1e9, 1e9))
    return {path: digest for path, digest in digest_of(store).items() if path in OTHERS}


def test_every_file_of_a_store_is_known(two_runs: TwoRuns) -> None:
    tag_run(Store(two_runs.store), "v1", None, Waiting())
    kept_for_good = ("tags/", "tombstones/")
    files = [path for path in digest_of(two_runs.store) if not path.startswith(kept_for_good)]
    assert [path for path in files if not is_written_here(path)] == []
    set_aside = [Store(two_runs.store).set_aside(path) for path in files if "parquet" in path]
    assert [path for path in set_aside if not is_written_here(path)] == []


def test_files_that_others_put_into_a_store_stay(two_runs: TwoRuns) -> None:
    # Its only run goes, with all that it has.
    expected = put_others(two_runs.store)
    before = gc(two_runs.store, dry_run=True)
    assert before.removed == (two_runs.first.run,)
    gc(two_runs.store)
    assert expected.items() <= digest_of(two_runs.store).items()
    delete_reports(Store(two_runs.store))
    assert expected.items() <= digest_of(two_runs.store).items()


def test_files_of_others_are_not_counted(two_runs: TwoRuns) -> None:
    before = gc(two_runs.store, dry_run=True)
    put_others(two_runs.store)
    after = gc(two_runs.store, dry_run=True)
    assert {n: t for n, t in after.tallies.items() if n in before.tallies} == before.tallies
    assert not any(
        tally.removed_files for n, tally in after.tallies.items() if n not in before.tallies
    )


def test_nothing_beyond_a_link_within_a_store_is_removed(two_runs: TwoRuns) -> None:
    outside = two_runs.store.parent / "outside"
    outside.mkdir()
    (outside / "thesis.tex").write_text("mine")
    os.utime(outside / "thesis.tex", (1e9, 1e9))
    memo = f"{7:032x}"
    for link in (f"work/embed/{memo}", f"reports/{memo}", "open/birds/images"):
        (two_runs.store / link).parent.mkdir(parents=True, exist_ok=True)
        (two_runs.store / link).symlink_to(outside)
    store = Store(two_runs.store)
    gc(two_runs.store)
    delete_reports(store)
    close(store, "birds", "images")
    WorkFolder(store, f"work/embed/{memo}", "attempt").delete()
    assert (outside / "thesis.tex").read_text() == "mine"


def test_a_folder_of_a_store_may_be_on_another_disk(two_runs: TwoRuns) -> None:
    for top in ("work", "tables"):
        (two_runs.store / top).rename(two_runs.store.parent / top)
        (two_runs.store / top).symlink_to(two_runs.store.parent / top)
    old = two_runs.store / "work" / "embed" / f"{7:032x}" / "a.bin"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    os.utime(old, (1e9, 1e9))
    gc(two_runs.store)
    assert not old.exists()


@pytest.mark.parametrize("command", ["gc", "verify-store"])
def test_a_place_without_a_store_is_refused(tmp_path: Path, command: str) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        (tmp_path / "work").mkdir(exist_ok=True)
        (tmp_path / "work" / "thesis.tex").write_text("mine")
        result = CliRunner().invoke(app, [command, "--store", str(folder)])
        assert isinstance(result.exception, StoreError)
        assert f"there is no store at {folder}" in str(result.exception)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["thesis.tex", "work"]


@pytest.mark.parametrize("how", ["set aside", "deleted"])
def test_nothing_goes_while_the_record_of_a_tagged_run_is_missing(
    two_runs: TwoRuns, how: str
) -> None:
    store = Store(two_runs.store)
    tag_run(store, "v1", two_runs.first.run, Waiting())
    record = two_runs.store / two_runs.first.path
    content = record.read_bytes()
    if how == "set aside":
        record.write_bytes(content[:-9])
        verify_store(store, set_aside=True)
    else:
        record.unlink()
    before = digest_of(two_runs.store)
    for dry_run in (True, False):
        with pytest.raises(
            StoreError, match=r"tag 'v1' .* missing.* Nothing was removed.*--delete"
        ):
            gc(two_runs.store, dry_run=dry_run)
    assert digest_of(two_runs.store) == before
    record.write_bytes(content)
    assert gc(two_runs.store).kept[two_runs.first.run] == "tagged"


def test_nothing_goes_from_a_store_without_a_record_of_a_run(two_runs: TwoRuns) -> None:
    for path in (two_runs.store / "runs").iterdir():
        path.unlink()
    before = digest_of(two_runs.store)
    for dry_run in (True, False):
        with pytest.raises(StoreError, match=r"no record of a run.*Nothing was removed"):
            gc(two_runs.store, dry_run=dry_run)
    assert digest_of(two_runs.store) == before
