"""Failed rows are asked for again when a run or the recipe says so, and too many end the run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from curation.engine.contract import contract
from curation.engine.parallel import InProcess
from curation.errors import BoundsError, RecipeError
from curation.flow import plan
from curation.media.web.failure_reasons import DROPPED, TRANSIENT_REASONS, check_failure
from curation.recipe import parse_recipe
from curation.runner.outcomes import asked_again
from curation.runner.step import run_step
from curation.stages.fetch.failures import outcomes_to_retry, too_many_failures
from curation.stages.fetch.params import FetchStep
from curation.store.run_log import Recompute, read_runs, recorded_run
from curation.store.store import Store
from tests.fetch.conftest import HOSTS, Web, answer
from tests.fetch.helpers import OPEN, encoded, picture
from tests.ingest.helpers import source, table, write

MISSING, BROKEN = "/3.jpg", "/4.jpg"


@pytest.fixture
def path(web: Web, tmp_path: Path) -> Path:
    """A list of which one row is missing (404) and one has a transient failure (500)."""
    rows = []
    for n in range(12):
        web.pages[f"/{n}.jpg"] = answer(encoded(picture(40 + n)))
        rows.append({"url": web.url(f"/{n}.jpg", HOSTS[n % 4]), "caption": f"c{n}"})
    web.pages[MISSING] = answer(status="404 Not Found")
    web.pages[BROKEN] = answer(status="500 Oops")
    return write(tmp_path / "l.parquet", rows)


def fetch(
    store: Path, path: Path, recompute: Recompute | None = None, **params: Any
) -> dict[str, Any]:
    """Run ingest and fetch over a list in one run; return the rows of `images` by caption."""
    return fetch_sources(store, [source(path)], recompute, **params)


def fetch_sources(
    store: Path, sources: list[dict[str, Any]], recompute: Recompute | None = None, **params: Any
) -> dict[str, Any]:
    """Run ingest and fetch in one run; return the rows of `images` by caption."""
    recipe = parse_recipe({"name": "r", "sources": sources, "fetch": OPEN | params})
    opened = Store(store)
    with recorded_run(opened, "r", "f") as run:
        run.recompute = recompute or Recompute()
        for step in plan(recipe, until="fetch"):
            run_step(step, opened, InProcess(), run)
    return {row["caption"]: row for row in table(store, "images").read().to_pylist()}


def asked(web: Web) -> set[str]:
    paths = {v.path for v in web.visits()}
    web.log.clear()
    return paths


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), set()),
        (("transient",), {BROKEN}),
        (("http_404",), {MISSING}),
        (("all",), {MISSING, BROKEN}),
        (("timeout",), set()),
    ],
)
def test_a_run_asks_again_for_the_failures_that_it_is_told_to(
    web: Web, tmp_path: Path, path: Path, names: tuple[str, ...], expected: set[str]
) -> None:
    before = fetch(tmp_path / "s", path)
    asked(web)
    web.pages[MISSING] = web.pages[BROKEN] = answer(encoded(picture(99)))
    after = fetch(tmp_path / "s", path, Recompute(retry=names))
    assert asked(web) == expected
    mended = {f"c{name[1:].removesuffix('.jpg')}" for name in expected}
    assert {c for c, row in after.items() if row != before[c]} == mended
    assert all(after[c]["status"] == "ok" for c in mended)
    # What was mended stays, and nothing is asked again.
    assert fetch(tmp_path / "s", path) == after
    assert asked(web) == set()


def test_the_command_asks_again_for_what_its_option_names(
    web: Web, tmp_path: Path, path: Path
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(yaml.safe_dump({"name": "r", "sources": [source(path)], "fetch": OPEN}))
    # In a process of its own: a run stops its Spark, which other tests of this process may use.
    command = [sys.executable, "-m", "curation", "run", str(recipe), "--until", "fetch", "--store"]
    for more, expected in (([], {BROKEN, MISSING}), (["--retry", "transient"], {BROKEN})):
        done = subprocess.run(
            [*command, tmp_path / "s", *more], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert asked(web) & {BROKEN, MISSING} == expected


def test_force_asks_for_everything_again(web: Web, tmp_path: Path, path: Path) -> None:
    before = fetch(tmp_path / "s", path)
    asked(web)
    assert fetch(tmp_path / "s", path, Recompute(force=True)) == before
    assert asked(web) == {f"/{n}.jpg" for n in range(12)}


def test_too_many_failures_end_the_run_and_the_next_one_asks_for_them(
    web: Web, tmp_path: Path, path: Path
) -> None:
    bound = {"transient": 0.05}
    with pytest.raises(BoundsError, match=r"1 of 12 rows failed \(http_500 1\)"):
        fetch(tmp_path / "s", path, fail_over=bound)
    asked(web)
    with pytest.raises(BoundsError):
        fetch(tmp_path / "s", path, fail_over=bound)
    assert asked(web) == {BROKEN}
    web.pages[BROKEN] = answer(encoded(picture(99)))
    rows = fetch(tmp_path / "s", path, fail_over=bound)
    assert asked(web) == {BROKEN}
    assert rows["c4"]["status"] == "ok"
    # A bound that is kept changes no row.
    for number, other in enumerate(({}, {"transient": 0.9})):
        assert fetch(tmp_path / f"fresh-{number}", path, fail_over=other) == rows
    asked(web)
    states = [record.state for record in read_runs(Store(tmp_path / "s"))]
    assert states == ["finished", "failed", "failed"]


def test_old_transient_failures_are_asked_again(web: Web, tmp_path: Path, path: Path) -> None:
    before = fetch(tmp_path / "s", path)
    asked(web)
    assert fetch(tmp_path / "s", path, retry_after_h=1.0) == before
    assert asked(web) == set()
    assert fetch(tmp_path / "s", path, retry_after_h=0.0) == before
    assert asked(web) == {BROKEN}
    for file in (path for path in (tmp_path / "s").rglob("*") if path.is_file()):
        os.utime(file, (file.stat().st_atime - 7200, file.stat().st_mtime - 7200))
    for expected in ({BROKEN}, set()):
        # The answer was the same as before, so the rows are.
        assert fetch(tmp_path / "s", path, retry_after_h=1.0) == before
        assert asked(web) == expected


@pytest.mark.parametrize("reason", [*TRANSIENT_REASONS, "http_503", "error_KeyError"])
def test_every_transient_reason_counts(reason: str) -> None:
    outcomes = {"ok": 80, reason: 20, "http_404": 100, "duplicate_url": 1000}
    params = FetchStep(fail_over={"transient": 0.09})
    (detail,) = too_many_failures(params, outcomes)
    assert f"20 of 200 rows failed ({reason} 20)" in detail.message
    assert (detail.where, detail.found) == ("fetch.fail_over.transient", 0.1)
    assert detail.fix is not None and "it asks for these rows again" in detail.fix
    assert outcomes_to_retry(params, outcomes, 0.0, ()) == {reason}
    assert too_many_failures(FetchStep(fail_over={"transient": 0.1}), outcomes) == []
    assert outcomes_to_retry(FetchStep(), outcomes, 0.0, ("all",)) == {reason, "http_404"}


def test_rows_that_ingest_dropped_do_not_count() -> None:
    dropped = documented_reasons("pairs", "Why the pair is not fetched:")
    # An exception that nothing foresaw may be one of either stage.
    dropped = [reason for reason in dropped if not reason.startswith("error_")]
    assert len(dropped) > 10
    outcomes = {"ok": 1, **dict.fromkeys(dropped, 100)}
    params = FetchStep(fail_over={"all": 0.0})
    assert too_many_failures(params, outcomes) == []
    assert outcomes_to_retry(params, outcomes, 0.0, ("all",)) == set()


def documented_reasons(table: str, after: str) -> list[str]:
    """Return the reasons that the contract of a table lists after a text, one of each family."""
    (column,) = (c for c in contract(table).columns if c.name == "reason")
    plain = re.sub(r"\([^)]*\)", "", column.doc.partition(after)[2])
    names = re.split(r"[;,]|\band\b", re.sub(r"<\w+>", "404", plain))
    return [name.strip() for name in names if name.strip()]


def test_every_documented_failure_has_a_name() -> None:
    reasons = documented_reasons("images", "the reason of ingest;")
    assert len(reasons) > 30
    refused = []
    for reason in reasons:
        try:
            check_failure(reason)
        except ValueError:
            refused.append(reason)
    assert set(refused) <= set(DROPPED), refused


@pytest.mark.parametrize("name", ["duplicate_url", "ok", "Time out", "", "timeot", "http_50x"])
def test_what_is_no_failure_is_refused(name: str) -> None:
    fetching = plan(parse_recipe({"name": "r", "sources": [source(Path("l"))]}), "fetch")
    with pytest.raises(RecipeError, match="is no failure of a fetch"):
        asked_again(fetching, False, [name])
    with pytest.raises(RecipeError, match="is no failure of a fetch"):
        parse_recipe(
            {"name": "r", "sources": [source(Path("l"))], "fetch": {"fail_over": {name: 0.5}}}
        )


def test_retry_that_has_no_effect_is_refused() -> None:
    steps = plan(parse_recipe({"name": "r", "sources": [source(Path("l"))]}))
    with pytest.raises(RecipeError, match="has an effect on the stage fetch alone"):
        asked_again([s for s in steps if s.name != "fetch"], False, ["transient"])
    with pytest.raises(RecipeError, match="--retry: it has no effect beside --force"):
        asked_again(steps, True, ["transient"])
    assert asked_again(steps, False, ["all"]) == Recompute(retry=("all",))


def fetch_lists(
    store: Path, paths: list[Path], recompute: Recompute | None = None, **params: Any
) -> dict[str, Any]:
    """Run ingest and fetch over lists, each a source; return the rows of `images` by caption."""
    sources = [source(path, name=path.stem) for path in paths]
    return fetch_sources(store, sources, recompute, **params)


@pytest.fixture
def other(web: Web, path: Path) -> Path:
    """A second list."""
    web.pages["/50.jpg"] = answer(encoded(picture(50)))
    return write(path.with_name("other.parquet"), [{"url": web.url("/50.jpg"), "caption": "c50"}])


@pytest.mark.parametrize("names", [("all",), ("http_404", "http_500")])
@pytest.mark.parametrize("before", [["l"], ["l", "other"], ["other", "l", "other"]])
def test_a_changed_recipe_asks_again_for_the_failures_that_it_is_told_to(
    web: Web, tmp_path: Path, path: Path, other: Path, names: tuple[str, ...], before: list[str]
) -> None:
    """What is reused of a recipe with other sources, or of a version before the last, counts too."""
    for name in before:
        fetch_lists(tmp_path / "s", [path.with_name(f"{name}.parquet")])
    asked(web)
    web.pages[MISSING] = web.pages[BROKEN] = answer(encoded(picture(99)))
    after = fetch_lists(tmp_path / "s", [path, other], Recompute(retry=names))
    assert asked(web) >= {MISSING, BROKEN}
    assert {row["status"] for row in after.values()} == {"ok"}
    assert fetch_lists(tmp_path / "s", [path, other]) == after
    assert asked(web) == set()


def test_old_failures_are_asked_again_though_other_rows_were_committed_since(
    web: Web, tmp_path: Path, path: Path, other: Path
) -> None:
    """As in a store to which rows are added every day."""
    fetch_lists(tmp_path / "s", [path])
    for file in (path for path in (tmp_path / "s").rglob("*") if path.is_file()):
        os.utime(file, (file.stat().st_atime - 7200, file.stat().st_mtime - 7200))
    fetch_lists(tmp_path / "s", [path, other])
    asked(web)
    fetch_lists(tmp_path / "s", [path, other], retry_after_h=3.0)
    assert asked(web) == set()
    fetch_lists(tmp_path / "s", [path, other], retry_after_h=1.0)
    assert asked(web) == {BROKEN}
    # They were asked just now.
    fetch_lists(tmp_path / "s", [path, other], retry_after_h=1.0)
    assert asked(web) == set()
