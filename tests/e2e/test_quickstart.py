"""The main job as a new user runs it, on the command line, against what the mini-web really holds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow.parquet as pq
import pytest

from curation.engine.table import open_table
from curation.errors import RecipeError, StoreError
from curation.flow import STAGES
from curation.inspect.queries import read_queries
from curation.inspect.search import Search
from curation.recipe import load_recipe
from curation.store.manifest import count_outcomes
from curation.store.store import Store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Cli = Callable[..., subprocess.CompletedProcess[str]]

THRESHOLDS = {"min_side", "aspect", "entropy"}


@pytest.fixture(scope="module")
def cli(mini_web: Path, root: Path) -> Cli:
    """Runs `curation` where the recipe's paths start."""

    def call(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "curation.cli", *arguments]
        result = subprocess.run(command, cwd=mini_web, capture_output=True, text=True, check=False)
        assert result.returncode == status, result.stderr
        return result

    return call


@pytest.fixture(scope="module")
def finished(cli: Cli, mini_web: Path, root: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The store of a finished run, and what the run printed."""
    recipe = str(root / "conf" / "recipes" / "quickstart.yaml")
    result = cli("run", recipe, "--store", "store")
    return mini_web / "store", result


@pytest.fixture(scope="module")
def rows(finished: tuple[Path, subprocess.CompletedProcess[str]], mini_web: Path) -> pd.DataFrame:
    """Every row of the pool beside its truth."""
    store = Store(finished[0])
    truth = pd.read_parquet(mini_web / "data" / "quickstart" / "truth.parquet")
    columns = ["pair_id", "source", "source_key", "image_id", "status", "reason"]
    images = open_table(store, "images").read(columns).to_pandas()
    eligible = open_table(store, "eligible").read(["pair_id", "status", "reason"]).to_pandas()
    images[["fit", "why"]] = eligible[["status", "reason"]]
    copies = open_table(store, "copies").read(["pair_id", "representative_id", "contaminated_by"])
    images = images[images["source"] == "web"].merge(copies.to_pandas(), how="left", on="pair_id")
    return truth.merge(images, left_on="uid", right_on="source_key", validate="one_to_one")


def test_prints_composition_dataset_and_report(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    store, result = finished
    assert "Composition of quickstart" in result.stdout
    dataset = str(next((store / "dataset").iterdir()))
    assert dataset in result.stdout
    (report,) = (store / "reports").glob("*/report.html")
    assert str(report) in result.stdout
    assert len(pq.read_table(report.parent / "composition.parquet")) == 4


def test_every_row_of_the_pool_is_accounted_for(rows: pd.DataFrame) -> None:
    assert len(rows) >= 1500
    assert rows["status"].notna().all()
    lost = rows[rows["status"] != "ok"]
    assert lost["reason"].notna().all()


def test_a_first_run_becomes_no_faster_by_leaving_work_out(
    finished: tuple[Path, subprocess.CompletedProcess[str]], rows: pd.DataFrame
) -> None:
    store = Store(finished[0])
    for encoder in ("semantic", "copy"):
        counts = open_table(store, f"embeddings.{encoder}").manifest.counts
        assert count_outcomes([counts])["ok"] >= 1930
    assert open_table(store, "neighbours").rows >= 104_000
    planted = rows["kind"].isin(["exact_copy", "edited_copy", "held_out_copy"])
    assert planted.sum() >= 129
    assert (~planted & (rows["kind"] != "ok")).sum() >= 205


def test_dirt_is_what_it_is(rows: pd.DataFrame) -> None:
    refused = rows[rows["expected_status"] == "refused"]
    assert (refused["status"] != "ok").all()
    assert set(refused[refused["kind"] == "blocked_domain"]["reason"]) == {"blocked_domain"}
    assert set(rows[rows["kind"].str.contains("private")]["reason"]) == {"private_address"}
    failed = rows[(rows["expected_status"] == "failed") & (rows["kind"] != "duplicate_url")]
    assert set(failed["status"]) == {"failed"}
    assert {"http_404", "not_an_image", "connection_error", "truncated"} <= set(failed["reason"])
    filtered = rows[rows["expected_status"] == "filtered"]
    assert set(filtered["why"]) <= THRESHOLDS
    fetched = rows[rows["expected_status"].isin(["ok", "leak"])]
    # Of two rows with one URL either may come first in the shuffled list.
    asked = fetched[fetched["reason"] != "duplicate_url"]
    assert len(fetched) - len(asked) < 20
    assert (asked["status"] == "ok").all()


def test_good_pictures_stay(rows: pd.DataFrame) -> None:
    good = rows[rows["expected_status"] == "ok"]
    # One of an exact pair goes, whichever it is.
    originals = set(rows[rows["kind"] == "exact_copy"]["copy_of"])
    alone = good[~good["uid"].isin(originals)]
    share = (alone["fit"] == "eligible").mean()
    # The pool is cut from few photographs, and a crop that lies within another is its copy.
    assert share > 0.95, alone[alone["fit"] != "eligible"]["why"].value_counts().to_dict()


def test_copies_are_found(rows: pd.DataFrame) -> None:
    image = rows.set_index("uid")["representative_id"]
    planted = rows[rows["kind"].isin(["exact_copy", "edited_copy"])].copy()
    # The original of a few is asked for under a URL that stands in the list before.
    planted = planted[planted["copy_of"].map(image).notna()]
    planted["found"] = planted["representative_id"] == planted["copy_of"].map(image)
    recall = planted.groupby(["kind", "hard"])["found"].mean()
    assert recall["exact_copy", False] == 1
    assert recall["edited_copy", False] >= 0.75, planted.groupby("edit")["found"].mean().to_dict()


def test_crops_of_a_photograph_do_not_collapse(rows: pd.DataFrame) -> None:
    """A component holds nothing but a picture and its planted copies, with few exceptions."""
    fetched = rows[rows["status"] == "ok"].copy()
    fetched["origin"] = fetched["copy_of"].where(fetched["copy_of"] != "", fetched["uid"])
    origins = fetched[fetched["kind"].isin(["ok", "exact_copy", "edited_copy"])].groupby(
        "representative_id"
    )["origin"]
    assert (origins.nunique() > 1).mean() < 0.01
    assert origins.nunique().max() <= 4


def test_held_out_copies_leave(rows: pd.DataFrame) -> None:
    leaks = rows[rows["kind"] == "held_out_copy"]
    assert (leaks["why"] == "contaminated").mean() >= 0.8, leaks.groupby("edit")["why"].unique()
    good = rows[rows["kind"] == "ok"]
    assert (good["why"] == "contaminated").mean() < 0.01


def test_second_run_does_nothing(
    finished: tuple[Path, subprocess.CompletedProcess[str]], cli: Cli, root: Path
) -> None:
    result = cli("run", str(root / "conf" / "recipes" / "quickstart.yaml"), "--store", "store")
    assert "Nothing to do" in result.stdout
    assert "computed" not in result.stderr


def test_dataset_opens_by_path_in_four_readers(
    finished: tuple[Path, subprocess.CompletedProcess[str]], cli: Cli, spark: SparkSession
) -> None:
    (folder,) = cli("path", "dataset", "--store", "store", "--dir").stdout.split()
    rows = open_table(Store(finished[0]), "dataset").rows
    by_reader = {
        "pandas": pd.read_parquet(folder),
        "duckdb": duckdb.execute(f"SELECT * FROM '{folder}/*.parquet'").df(),
        "polars": polars.read_parquet(f"{folder}/*.parquet").to_pandas(),
        "spark": spark.read.parquet(folder).toPandas(),
    }
    for name, frame in by_reader.items():
        assert len(frame) == rows, name
        assert set(frame["image_id"]) == set(by_reader["pandas"]["image_id"]), name
        assert frame["weight"].sum() == by_reader["pandas"]["weight"].sum(), name
        assert all(len(c) == w for c, w in zip(frame["claims"], frame["weight"], strict=True)), name
        assert bytes(frame["image"].iloc[0])[:2] in (b"\xff\xd8", b"\x89P", b"RI"), name


def test_show_counts_rows_and_path_lists_their_files(
    finished: tuple[Path, subprocess.CompletedProcess[str]], cli: Cli
) -> None:
    shown = cli("show", "images", "--store", "store").stdout
    for word in ("rows", "http_404", "image_id", "pool"):
        assert word in shown
    paths = cli("path", "images", "--store", "store").stdout.split()
    assert all(p.startswith("/") and p.endswith(".parquet") for p in paths)
    assert sum(pq.read_metadata(p).num_rows for p in paths) > 1500
    missing = cli("show", "imges", "--store", "store", status=1)
    assert "Valid: " in missing.stderr.replace("\n", " ")


def test_bad_recipe_exits_with_two_before_any_work(cli: Cli, mini_web: Path) -> None:
    bad = mini_web / "bad.yaml"
    bad.write_text("name: bad\nsources: []\nfech: {}\n")
    result = cli("run", str(bad), "--store", "bad-store", status=2)
    assert "did you mean 'fetch'" in result.stderr
    missing = (
        "name: m\nsources:\n"
        "- {name: w, role: pool, format: csv, path: no/such.csv, columns: {url: u}}\n"
    )
    bad.write_text(missing)
    result = cli("run", str(bad), "--store", "bad-store", status=2)
    assert "no/such.csv" in result.stderr
    assert not (mini_web / "bad-store").exists()


@pytest.fixture(scope="module")
def over(finished: tuple[Path, subprocess.CompletedProcess[str]], root: Path) -> Search:
    """What `curation search` looks through."""
    recipe = load_recipe(str(root / "conf" / "recipes" / "quickstart.yaml"))
    return Search(recipe, Store(finished[0]))


def test_search_finds_a_picture_by_itself(
    cli: Cli,
    over: Search,
    finished: tuple[Path, subprocess.CompletedProcess[str]],
    root: Path,
    tmp_path: Path,
) -> None:
    """A stored picture, as a file and by its id, finds itself and its neighbours by exact cosine."""
    store = Store(finished[0])
    images = open_table(store, "images").read(["image_id", "status", "role", "image"]).to_pandas()
    row = images[(images["status"] == "ok") & (images["role"] == "pool")].iloc[7]
    picture = tmp_path / "one.jpg"
    picture.write_bytes(row["image"])
    by_file, index = over.nearest(over.vectors_of_files([picture]), 5)
    by_id = over.nearest(over.vectors_of([row["image_id"]]), 5)[0].to_pandas()
    assert index == "exact"
    assert by_file.column("image_id")[0].as_py() == row["image_id"]
    assert by_file.column("similarity")[0].as_py() > 0.999
    assert by_id["image_id"].tolist() == by_file.column("image_id").to_pylist()
    table = open_table(store, "embeddings.semantic").read(["image_id", "vector"]).to_pandas()
    table = table.dropna().drop_duplicates("image_id")
    matrix = np.stack([np.frombuffer(v, "<f2").astype(np.float64) for v in table["vector"]])
    vector = matrix[(table["image_id"] == row["image_id"]).to_numpy().argmax()]
    np.testing.assert_allclose(by_id["similarity"], np.sort(matrix @ vector)[::-1][:5], atol=1e-6)
    claimed = set(open_table(store, "claims").read().column("image_id").to_pylist())
    assert [len(arms) > 0 for arms in by_id["arms"]] == [i in claimed for i in by_id["image_id"]]
    recipe = str(root / "conf" / "recipes" / "quickstart.yaml")
    shown = cli("search", recipe, "--store", "store", "-k", "5", "--id", row["image_id"]).stdout
    assert "Nearest images, exact" in shown
    assert all(name in shown for name in by_id["image_id"])


def test_search_refuses_what_it_cannot_use(
    cli: Cli, over: Search, root: Path, tmp_path: Path
) -> None:
    recipe = str(root / "conf" / "recipes" / "quickstart.yaml")
    refused = cli("search", recipe, "--store", "store", status=2).stderr
    assert "--image, --id, --text, --vectors. Give exactly one" in " ".join(refused.split())
    with pytest.raises(StoreError, match="no vector of beef"):
        over.vectors_of(["beef"])
    with pytest.raises(StoreError, match="no vector of a"):
        over.vectors_of(["a\udcff"])
    with pytest.raises(RecipeError, match="not UTF-8"):
        over.vectors_of_texts(["a\udcff"])
    with pytest.raises(StoreError, match="queries have 7 dimensions"):
        over.nearest(np.ones((1, 7), np.float32), 3)
    path = tmp_path / "queries.npy"
    for array, words in (
        (np.zeros((1, 192), np.float32), "row 0 is zero"),
        (np.ones(7, np.float32), "must hold floats"),
        (np.array([{"a": 1}]), "cannot be read as an array"),
    ):
        np.save(path, array, allow_pickle=True)
        with pytest.raises(RecipeError, match=words):
            read_queries(path)
    with pytest.raises(RecipeError, match="there is no file"):
        read_queries(tmp_path / "absent.npy")


def test_plan_of_the_quickstart(cli: Cli, root: Path) -> None:
    recipe = str(root / "conf" / "recipes" / "quickstart.yaml")
    steps = json.loads(cli("plan", recipe, "--json").stdout)["steps"]
    assert len(steps) == len(STAGES)
