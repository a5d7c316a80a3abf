"""`curation init` recognises what people have, and writes a recipe that runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from curation.cli import app
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.engine.yaml_text import load_yaml
from curation.errors import RecipeError
from curation.flow import plan
from curation.inspect.check.check import check_recipe
from curation.inspect.first_recipe.draft import draft, name_of
from curation.inspect.first_recipe.text import flow, recipe_text
from curation.recipe import Recipe, parse_recipe
from curation.runner.step import run_step
from curation.stages.ingest.recognise import recognise
from curation.stages.ingest.recognise.column_names import Head, guess_columns
from curation.stages.ingest.recognise.place import place_of
from curation.stages.ingest.sources import FORMATS
from curation.store.store import Store

from ..ingest.helpers import jpeg, write
from .files import LISTS, LOCAL, listed_paths, pictures

CONTACT = "crawl@example.org"
POOL, SEEDS = pictures(30), pictures(2, first=100)
URLS = [f"https://pictures.example/{n}.jpg" for n in range(5)]


def written(*paths: Path, **options: Any) -> Recipe:
    """The recipe that init writes."""
    text = recipe_text(draft([str(path) for path in paths], **options), "a.yaml")
    return parse_recipe(load_yaml(text))


@pytest.fixture(scope="module", params=LOCAL)
def local(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in one of the forms that hold them."""
    path: Path = tmp_path_factory.mktemp("local") / str(request.param)
    LOCAL[request.param](path, POOL)
    return path


def test_what_holds_pictures_is_recognised(local: Path) -> None:
    recipe = written(local)
    (source,) = recipe.sources
    wanted: dict[str, tuple[str, dict[str, str]]] = {
        "folder": ("folder", {}),
        "captioned": ("folder", {}),
        "webdataset": ("webdataset", {}),
        "embedded": ("parquet", {"image": "jpg", "caption": "text", "key": "id"}),
        "hub": ("huggingface", {"caption": "caption"}),
    }
    assert (source.format, source.columns) == wanted[local.name]
    assert recipe.kept_pixels == "without_url"
    assert [arm.strategy for arm in recipe.retrieve] == ["everything"]
    assert recipe.cluster.levels == [1]


def test_a_recipe_of_init_passes_check(local: Path, tmp_path: Path) -> None:
    checked = check_recipe(written(local), str(tmp_path / "store"))
    assert list(checked.problems) == []
    # All that it says of its own recipe is that the encoders are small.
    assert {finding.code for finding in checked.warnings} <= {"first_run_encoder"}
    (surveyed,) = checked.facts.surveys
    assert (surveyed.rows, surveyed.is_exact, surveyed.local_images) == (30, True, 30)
    assert surveyed.count("caption") == (0 if local.name == "folder" else 30)
    assert checked.facts.trial.stored == 30


@pytest.mark.parametrize("form", LISTS)
def test_lists_of_urls_are_recognised(form: str, tmp_path: Path) -> None:
    path = LISTS[form](tmp_path, URLS)
    recipe = written(path, contact=CONTACT)
    (source,) = recipe.sources
    columns = {"url": "URL", "caption": "TEXT", "key": "uid"}
    assert source.format == ("cc3m" if form == "tsv" else form)
    assert source.columns == ({} if form in ("txt", "tsv") else columns)
    assert recipe.fetch.contact == CONTACT
    assert recipe.kept_pixels == "none"
    checked = check_recipe(recipe, str(tmp_path / "store"))
    assert list(checked.problems) == []
    with pytest.raises(RecipeError, match="--contact"):
        written(path)


@pytest.mark.parametrize("form", ["captioned", "embedded"])
def test_a_recipe_of_init_runs(form: str, tmp_path: Path) -> None:
    LOCAL[form](tmp_path / "pool", POOL[:10])
    LOCAL["webdataset"](tmp_path / "seeds", SEEDS)
    recipe = written(tmp_path / "pool", seeds=[str(tmp_path / "seeds")])
    store = Store(tmp_path / "store")
    for step in plan(recipe):
        run_step(step, store, InProcess())
    rows = open_table(store, "dataset").read().to_pylist()
    assert {row["role"] for row in rows} == {"pool", "seed"}
    assert all(row["image"] and row["caption"] for row in rows)
    assert len(rows) >= len(SEEDS) + 1


def test_paths_in_a_list_are_read_where_no_picture_is_nearer(tmp_path: Path) -> None:
    listed_paths(tmp_path / "a", POOL[:6])
    # The folder itself holds pictures; the list is chosen by its name.
    (by_list,) = written(tmp_path / "a" / "list.csv").sources
    assert by_list.columns == {"path": "file_name", "caption": "text"}
    (by_folder,) = written(tmp_path / "a").sources
    assert by_folder.format == "folder"


def test_splits_that_become_one_source_are_named(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for split in ("train", "test"):
        write(tmp_path / "data" / f"{split}-00000-of-00001.parquet", [{"image": jpeg()}])
        LOCAL["folder"](tmp_path / "pictures" / split, pictures(4))
    for name in ("data", "pictures"):
        drafted = draft([str(tmp_path / name)])
        (note,) = (n for n in drafted.notes[name] if "several splits" in n)
        assert "one source: test, train." in note and "--held-out" in note
    alone = draft(
        [str(tmp_path / "data" / "train-*.parquet")], (), [str(tmp_path / "data" / "test-*")]
    )
    assert not [note for notes in alone.notes.values() for note in notes if "split" in note]


def test_every_source_has_its_role_and_a_name_of_its_own(tmp_path: Path) -> None:
    for part in ("a", "b", "c"):
        (tmp_path / part).mkdir()
        LOCAL["folder"](tmp_path / part / "birds", pictures(4, first=ord(part)))
    a, b, c = (str(tmp_path / part / "birds") for part in ("a", "b", "c"))
    recipe = written(Path(a), seeds=[b], held_out=[c])
    names = [(source.name, source.role, source.path) for source in recipe.sources]
    assert names == [("birds", "pool", a), ("birds-2", "seed", b), ("birds-3", "held_out", c)]
    assert {arm.seeds for arm in recipe.retrieve} == {"birds-2"}
    assert "held_out" in recipe.dedup.model_fields_set


def test_thresholds_that_drop_nothing_are_comments(tmp_path: Path) -> None:
    LOCAL["folder"](tmp_path / "a", [*POOL, *pictures(3, first=200, side=40)])
    assert set(written(tmp_path / "a").select) == {"min_side"}
    LOCAL["folder"](tmp_path / "b", POOL)
    assert set(written(tmp_path / "b").select) == set()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "nothing is there"),
        ({"a.bin": b"\x00\x01"}, r"no format recognises what is there \(a.bin\)"),
        ({"a.csv": b"name,age\nx,3\n"}, r"no column holds URLs.*numbers: name, age\)"),
        (
            {"a.jsonl": b'{"n": 1, "images": [{"url": "http://a.example/1.jpg"}]}\n'},
            r"numbers: n\)",
        ),
        ({"a.csv": b"https://a.example/1.jpg,x\n"}, "there is no header.*'url,caption'"),
        ({"a.csv": b"b/1.jpg,x\nb/2.jpg,y\n"}, "there is no header.*'path,caption'"),
        ({"a.tsv": b"x\tb/1.jpg\ny\tb/2.jpg\n"}, "there is no header"),
        ({"a.txt": b"b/1.jpg\nb/2.jpg\n"}, "A list of paths.*the ending .csv"),
        ({"a.json": b'[{"image": "1.jpg"}]'}, "as JSON Lines: jq"),
        ({"a.csv": b"url;text\nhttp://a.example/1.jpg;a b\n"}, "'url;text'. Its.*separated by ';'"),
        ({"a.csv": b"url\ttext\nhttp://a.example/1.jpg\ta b\n"}, "set `format: tsv`"),
        ({"a.tsv": b"url,text\nhttp://a.example/1.jpg,a b\n"}, "set `format: csv`"),
        ({"a.csv": b"sep=,\nurl,text\nhttp://a.example/1.jpg,a\n"}, "Remove its first line"),
        ({"a.txt": b"some notes\n"}, "not all URLs"),
        ({"a.tar": b"no tar" * 200}, "is not a tar"),
        ({"a.parquet": b"PAR1 no parquet PAR1"}, r"a\.parquet"),
        ({"a.json": b'[{"image": "1.jpg", "caption": "x"}]'}, r"jq -c '\.\[\]'"),
        ({"a.ZIP": b"PK\3\4"}, "Unpack the archive"),
        ({"data-0.arrow": b"ARROW1", "state.json": b"{}"}, "Write them as Parquet.*to_parquet"),
        ({"a.xlsx": b"PK\3\4"}, "Export the sheet as CSV"),
    ],
)
def test_what_cannot_be_a_source_is_refused(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    folder = tmp_path / "a"
    for name, content in files.items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        written(folder)


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to("nowhere")],
)
def test_a_place_that_is_no_file_says_so(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "list.csv")
    with pytest.raises(RecipeError, match="it is a pipe, a device, or a link that leads nowhere"):
        place_of(str(tmp_path / "list.csv"))


def test_every_format_says_how_it_is_recognised() -> None:
    for name, entry in FORMATS.items():
        assert entry.recognise is not None, name
        assert callable(entry.recognise.load())


def test_the_surest_format_wins(tmp_path: Path) -> None:
    LOCAL["webdataset"](tmp_path / "a", POOL[:4])
    LISTS["parquet"](tmp_path / "a", URLS)
    assert recognise(place_of(str(tmp_path / "a"))).fields["format"] == "webdataset"


@pytest.mark.parametrize(
    ("pool", "seeds", "k"),
    [(30, 2, 4), (30, 10, 1), (37, 4, 4), (45, 6, 3), (1000, 20, 5), (100_000, 20, 32), (0, 0, 1)],
)
def test_seeds_that_are_in_a_small_pool_find_more_than_themselves(
    pool: int, seeds: int, k: int, tmp_path: Path
) -> None:
    LOCAL["folder"](tmp_path / "photos", POOL[:1])
    made = draft([str(tmp_path / "photos")])
    (surveyed,) = made.surveys
    drafted = replace(made, surveys=[replace(surveyed, rows=pool)])
    assert drafted.k(replace(surveyed, rows=seeds)) == k
    assert k == 1 or k * seeds <= pool // 2


def test_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LOCAL["folder"](tmp_path / "photos", POOL[:4])
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["init", "photos"]).exit_code == 0
    before = (tmp_path / "photos.yaml").read_bytes()
    again = CliRunner().invoke(app, ["init", "photos"])
    assert isinstance(again.exception, RecipeError)
    assert "overwrites nothing" in str(again.exception)
    assert (tmp_path / "photos.yaml").read_bytes() == before
    assert CliRunner().invoke(app, ["init", "photos", "--out", "b.yaml"]).exit_code == 0
    assert CliRunner().invoke(app, ["check", "b.yaml", "--json"]).exit_code == 0


@pytest.mark.parametrize(
    ("path", "name"),
    [("Übungen", "ubungen"), ("Straße", "strasse"), ("été 2024", "ete-2024"), ("u\u0308", "u")],
)
def test_a_name_keeps_the_letters_under_its_accents(path: str, name: str) -> None:
    assert name_of(path) == name


@given(st.text(min_size=1))
def test_names_are_valid_whatever_the_path(path: str) -> None:
    source = {"name": name_of(path), "role": "pool", "format": "folder", "path": "p"}
    assert parse_recipe({"name": name_of(path), "sources": [source]})


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(st.dictionaries(TEXT, TEXT, max_size=3))
def test_values_are_one_line_of_yaml(values: dict[str, str]) -> None:
    assert "\n" not in flow(values)
    assert yaml.safe_load(flow(values)) == values


def test_text_of_strangers_stays_in_its_comment(tmp_path: Path) -> None:
    evil = "a\nplugins: [evil.py]\u2028x: 1\x85y: 2\x1b[2J"
    rows = [(name, content, f"{evil} {name}") for name, content, _ in POOL[:3]]
    LOCAL["embedded"](tmp_path / "a", rows)
    recipe = written(tmp_path / "a")
    assert recipe.plugins == []


@pytest.mark.parametrize(
    ("values", "columns"),
    [
        ({"image": ["http://a/1.jpg", "http://a/2.jpg"]}, {"url": "image"}),
        ({"u": [" http://a/1.jpg", "http://a/2.jpg "]}, {"url": "u"}),
        ({"image": ["x/1.jpg", "x/2.png"]}, {"path": "image"}),
        (
            {"page": ["http://a/p", "http://a/q"], "img": ["http://a/1.jpg", "http://a/2.jpg"]},
            {"url": "img"},
        ),
        ({"link": ["http://a/1", "http://a/2"], "words": ["a b c d", "e f g"]}, {"url": "link"}),
        ({"a": ["b"], "title": ["c"]}, {}),
        (
            {"URL": ["http://a/1"], "sha256": ["a" * 64], "id": [7], "Alt": ["x"]},
            {"url": "URL", "sha256": "sha256", "key": "id", "caption": "Alt"},
        ),
    ],
)
def test_columns_are_guessed_by_their_values(
    values: dict[str, list[Any]], columns: dict[str, str]
) -> None:
    guessed = guess_columns(Head(values))
    assert {name: guessed.get(name) for name in columns} == columns
    assert ("url" in guessed) == ("url" in columns) and ("path" in guessed) == ("path" in columns)
