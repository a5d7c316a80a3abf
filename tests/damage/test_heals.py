"""Whatever happens to one file of a store, running the recipe again gives the same tables."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePath

import pytest

from curation.engine.table import open_table
from curation.errors import StoreError
from curation.store.run_log import Recompute
from curation.store.verification import verify_store

from .conftest import Finished
from .finished import DAMAGES, kind_of, run_recipe, run_until_it_ends_well, tables_of

SAMPLE = 6
"""Cases that `make test` runs. `make nightly` runs all."""
SEED = 17
UNCHECKED = r"\.beat$"
"""Files that no manifest or record names."""


def checked(finished: Finished) -> list[str]:
    """Return the files whose damage is reported: of the entries of a log only the last is read."""
    files = [path for path in finished.files() if not re.search(UNCHECKED, path)]
    logs = groupby((p for p in files if p.startswith("steps/")), key=os.path.dirname)
    earlier = {path for _, paths in logs for path in list(paths)[:-1]}
    return [path for path in files if path not in earlier]


def problem_after(finished: Finished, path: str, damage: str, folder: Path) -> str:
    """Damage a file of a copy and run again; return what is wrong afterwards, or an empty text."""
    store = finished.copy(folder)
    DAMAGES[damage](folder / path)
    reported = {problem.path for problem in verify_store(store)}
    is_manifest = "/versions/" in path
    is_data = path.startswith("dataset/") or "/data/" in path
    unnoticed = damage == "delete" and not (is_manifest or is_data)
    if not unnoticed and path in checked(finished) and path not in reported:
        return "verify-store did not report it"
    run_until_it_ends_well(finished.spec, store)
    left = verify_store(store, set_aside=True)
    if left:
        run_until_it_ends_well(finished.spec, store)
    if verify_store(store):
        return f"still damaged: {verify_store(store)}"
    tables = tables_of(finished.spec, store)
    return ", ".join(
        f"table {name} differs" for name in finished.tables if tables[name] != finished.tables[name]
    )


@pytest.mark.parametrize("pattern", ["tables/*/versions/*.parquet", "**/done/*.json"])
def test_documents_in_the_place_of_others_are_damaged(
    finished: Finished, tmp_path: Path, pattern: str
) -> None:
    """Each is whole in itself, so its checksum is right."""
    store = finished.copy(tmp_path / "store")
    paths = sorted((tmp_path / "store").glob(pattern))
    contents = [path.read_bytes() for path in paths]
    assert len(contents) == len(set(contents)) > 15
    for path, content in zip(paths, [*contents[1:], contents[0]], strict=True):
        path.write_bytes(content)
    reported = {problem.path for problem in verify_store(store, set_aside="done" in pattern)}
    assert reported >= {str(path.relative_to(tmp_path / "store")) for path in paths}
    for name in finished.tables if "versions" in pattern else ():
        with pytest.raises(StoreError):
            open_table(store, name)
    run_recipe(finished.spec, store)
    assert verify_store(store) == []
    assert tables_of(finished.spec, store) == finished.tables


def cases(finished: Finished) -> Iterator[tuple[str, str]]:
    """Yield one file of each kind with each damage, in a seeded order."""
    of_kind = {kind_of(path): path for path in finished.files()}
    order = [(path, damage) for _, path in sorted(of_kind.items()) for damage in DAMAGES]
    # By kind, so that the order does not depend on names that differ from run to run.
    random.Random(SEED).shuffle(order)
    yield from order


@pytest.mark.parametrize("number", range(SAMPLE))
def test_running_again_mends_a_sample(finished: Finished, tmp_path: Path, number: int) -> None:
    path, damage = list(cases(finished))[number]
    assert not problem_after(finished, path, damage, tmp_path / "store"), (damage, path)


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        # The lease of a killed run, in a step that has nothing to do.
        (r"^steps/.*/0*3\.json$", "flip"),
        (r"^open/.*/v1\.metadata\.json$", "delete"),
        # The schema is read to publish the table at the address of the copy.
        (r"^dataset/.*\.parquet$", "overwrite"),
    ],
)
def test_running_again_mends_what_no_row_follows_from(
    finished: Finished, tmp_path: Path, pattern: str, damage: str
) -> None:
    path = next(path for path in finished.files() if re.search(pattern, path))
    assert not problem_after(finished, path, damage, tmp_path / "store")


DOCUMENTS = ("-published.json", ".json", "versions/*.parquet")
"""Files without which the files that they name are not known."""


@pytest.mark.parametrize("ending", [*DOCUMENTS, ""])
def test_every_damaged_file_is_reported(finished: Finished, tmp_path: Path, ending: str) -> None:
    """All documents of one kind at once, or all files that documents name."""
    store = finished.copy(tmp_path / "store")
    chosen = {
        path
        for path in checked(finished)
        if next((e for e in DOCUMENTS if PurePath(path).match(f"*{e}")), "") == ending
    }
    assert chosen
    for path in chosen:
        DAMAGES["flip"](tmp_path / "store" / path)
    assert chosen - {problem.path for problem in verify_store(store)} == set()


@pytest.mark.nightly
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("damage", DAMAGES)
def test_running_again_mends_every_file(finished: Finished, tmp_path: Path, damage: str) -> None:
    problems = {}
    for path in finished.files():
        try:
            problem = problem_after(finished, path, damage, tmp_path / "store")
        except Exception as error:
            problem = repr(error)
        shutil.rmtree(tmp_path / "store")
        if problem:
            problems[path] = problem
    assert not problems


def test_the_sample_could_take_every_kind(finished: Finished) -> None:
    kinds = {kind_of(path) for path in finished.files()}
    for kind in ("runs/*.json", "steps/*/*.json", "steps/*/*.beat", "dataset/*/*.parquet"):
        assert kind in kinds
    for folder, ending in (("data", "parquet"), ("versions", "parquet"), ("done", "json")):
        assert f"tables/images/{folder}/*.{ending}" in kinds
    assert {"tables/claims/keys/*.json", "work/verify/done/*.json"} <= kinds


@pytest.mark.nightly
def test_computing_again_by_force_mends_all_files_with_rows_at_once(
    finished: Finished, tmp_path: Path
) -> None:
    store = finished.copy(tmp_path / "store")
    for path in finished.files():
        if path.endswith(".parquet") and "/versions/" not in path:
            DAMAGES["overwrite"](tmp_path / "store" / path)
    run_recipe(finished.spec, store, recompute=Recompute(force=True))
    named = {
        file.path for name in finished.tables for file in open_table(store, name).manifest.files
    }
    assert named.isdisjoint(problem.path for problem in verify_store(store))
    assert tables_of(finished.spec, store) == finished.tables
