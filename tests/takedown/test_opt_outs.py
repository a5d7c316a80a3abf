"""Stored pictures whose hosts withhold them later, and for how long."""

from __future__ import annotations

import json
import random
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from curation.cli import app
from curation.engine.parallel import InProcess
from curation.errors import StoreError
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.step import run_step
from curation.runner.takedown.opted_out import opted_out
from curation.runner.takedown.prove import prove
from curation.store.run_log import Recompute, recorded_run
from curation.store.sealed_json import seal, unseal
from curation.store.store import Store

from ..fetch.conftest import Web, answer
from ..fetch.helpers import OPEN, encoded, picture
from ..gc.helpers import gc
from ..ingest.helpers import source, write
from ..pictures.metadata_files import jpeg

ANSWERS = ("ok", "withheld", "broken")


def crawl(store: Path, path: Path, name: str = "r", ask: bool = True) -> None:
    """Ask for all rows, whatever earlier runs have."""
    spec: dict[str, Any] = {"name": name, "sources": [source(path)], "fetch": OPEN}
    opened = Store(store)
    with recorded_run(opened, name, name) as run:
        run.recompute = Recompute(force=ask)
        for step in plan(parse_recipe(spec), until="fetch"):
            run_step(step, opened, InProcess(), run)


def set_pages(web: Web, answers: list[str]) -> None:
    for n, kind in enumerate(answers):
        tag = "noai" if kind == "withheld" else "all"
        status = "500 Broken" if kind == "broken" else "200 OK"
        web.pages[f"/{n}.jpg"] = answer(encoded(picture(40 + n)), status, X_Robots_Tag=tag)


def backdate(store: Path, day: int) -> None:
    """Have the last run look as if it had started on a day."""
    path = max((store / "runs").glob("*.json"))
    spec = unseal(path.read_bytes())
    path.write_bytes(seal(spec | {"started": time_of(day)}))


def time_of(day: int) -> str:
    return f"2026-01-{day:02}T00:00:00+00:00"


def expected(history: list[str], since: int) -> bool | None:
    """Whether a picture is to be taken down; None if it waits or was never stored or withheld."""
    answers = [(day, kind) for day, kind in enumerate(history, 1) if kind != "broken"]
    if not answers or answers[-1][1] == "ok" or all(kind == "withheld" for _, kind in answers):
        return None
    last_ok = max(day for day, kind in answers if kind == "ok")
    return min(day for day, _ in answers if day > last_ok) <= since


@pytest.mark.parametrize("seed", range(8))
def test_a_picture_counts_from_the_first_opt_out_after_its_last_answer(
    web: Web, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    # With one picture, later answers are often those of an earlier day, with the same bytes.
    pages = 1 if seed % 2 else 5
    store = tmp_path / "store"
    rows = [{"url": web.url(f"/{n}.jpg"), "caption": str(n)} for n in range(pages)]
    path = write(tmp_path / "l.parquet", rows)
    histories: list[list[str]] = [[] for _ in range(pages)]
    for day in range(1, 6):
        answers = [rng.choice(ANSWERS) for _ in range(pages)]
        for history, kind in zip(histories, answers, strict=True):
            history.append(kind)
        set_pages(web, answers)
        crawl(store, path)
        backdate(store, day)
    for since in range(1, 7):
        wanted = {n for n in range(pages) if expected(histories[n], since)}
        waiting = sum(expected(history, since) is False for history in histories)
        result = opted_out(Store(store), time_of(since))
        assert {int(url[-5]) for url in result.urls} == wanted, (histories, since)
        assert result.waiting == waiting


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["forget", *words])


@pytest.fixture
def withheld(web: Web, tmp_path: Path) -> Path:
    """A store with four pictures of which the second is withheld by its second run."""
    store = tmp_path / "store"
    rows = [{"url": web.url(f"/{n}.jpg"), "caption": str(n)} for n in range(4)]
    path = write(tmp_path / "l.parquet", rows)
    set_pages(web, ["ok"] * 4)
    crawl(store, path)
    set_pages(web, ["ok", "withheld", "ok", "ok"])
    crawl(store, path)
    return store


def test_a_withheld_picture_goes_after_the_time_and_what_keeps_it_does_not_help(
    web: Web, tmp_path: Path, withheld: Path
) -> None:
    words = ("--store", str(withheld), "--opt-outs", "--by", "legal", "--reason", "opt-outs")
    early = call(*words)
    assert early.exit_code == 0
    assert "0 stored pictures have been withheld by opt-outs for 30d" in early.stderr
    assert "1 more are withheld" in early.stderr
    assert not (withheld / "tombstones").exists()
    done = call(*words, "--after", "0s", "--json")
    assert json.loads(done.stdout)["rows"]["images"] == 2
    crawl(withheld, tmp_path / "l.parquet", ask=False)
    gc(withheld)
    assert prove(Store(withheld)).holds


def test_a_picture_that_another_recipe_has_stays(web: Web, tmp_path: Path, withheld: Path) -> None:
    set_pages(web, ["ok"] * 4)
    crawl(withheld, tmp_path / "l.parquet", name="other")
    result = opted_out(Store(withheld), time_of(31).replace("2026", "2100"))
    assert (result.urls, result.in_use) == ((), {"other": 1})


def folder_of(tmp_path: Path) -> Path:
    """A folder with a picture that prohibits data mining, and one that says nothing."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "forbidden.jpg").write_bytes(jpeg())
    (folder / "plain.jpg").write_bytes(encoded(picture()))
    return folder


def read_folder(store: Path, folder: Path, name: str, signals: list[str]) -> None:
    spec: dict[str, Any] = {
        "name": name,
        "sources": [source(folder, format="folder")],
        "fetch": {"opt_out_signals": signals},
    }
    opened = Store(store)
    with recorded_run(opened, name, name) as run:
        for step in plan(parse_recipe(spec), until="fetch"):
            run_step(step, opened, InProcess(), run)


def test_pictures_in_files_are_named_by_their_bytes(tmp_path: Path) -> None:
    store, folder = tmp_path / "store", folder_of(tmp_path)
    image = sha256(jpeg()).hexdigest()[:32]
    read_folder(store, folder, "r", [])
    read_folder(store, folder, "other", [])
    read_folder(store, folder, "r", ["data_mining"])
    result = opted_out(Store(store), time_of(31).replace("2026", "2100"))
    assert (result.pictures, result.in_use) == (0, {"other": 1})
    read_folder(store, folder, "other", ["data_mining"])
    result = opted_out(Store(store), time_of(31).replace("2026", "2100"))
    assert (result.urls, result.images, result.in_use) == ((), (image,), {})
    words = ("--store", str(store), "--opt-outs", "--by", "legal", "--reason", "opt-outs")
    assert "1 more are withheld" in call(*words).stderr
    done = call(*words, "--after", "0s", "--json")
    assert json.loads(done.stdout)["opt_outs"]["pictures"] == 1
    for name in ("r", "other"):
        read_folder(store, folder, name, ["data_mining"])
    gc(store)
    assert prove(Store(store)).holds


def test_the_same_bytes_behind_a_url_keep_a_picture_of_a_file(web: Web, tmp_path: Path) -> None:
    store, folder = tmp_path / "store", folder_of(tmp_path)
    web.pages["/0.jpg"] = answer(jpeg())
    rows = [{"url": web.url("/0.jpg"), "caption": "c"}]
    spec: dict[str, Any] = {
        "name": "web",
        "sources": [source(write(tmp_path / "l.parquet", rows))],
        "fetch": OPEN | {"opt_out_signals": []},
    }
    read_folder(store, folder, "r", [])
    read_folder(store, folder, "r", ["data_mining"])
    opened = Store(store)
    with recorded_run(opened, "web", "web") as run:
        for step in plan(parse_recipe(spec), until="fetch"):
            run_step(step, opened, InProcess(), run)
    result = opted_out(opened, time_of(31).replace("2026", "2100"))
    assert (result.pictures, result.in_use) == (0, {"web": 1})


def test_a_store_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Run a recipe"):
        opted_out(Store(tmp_path / "store"), time_of(1))
