"""`init` and `check` where folders, links and names are odd, and what `init` prints can be pasted."""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from curation.cli import app
from curation.engine.yaml_text import load_yaml
from curation.errors import RecipeError, StoreError
from curation.inspect.check.check import check_recipe
from curation.inspect.check.survey import survey
from curation.inspect.first_recipe.draft import Draft, draft
from curation.inspect.first_recipe.text import flow, recipe_text
from curation.media.web.params import OutboundParams
from curation.recipe import Recipe, load_recipe, parse_recipe
from curation.runner.preflight import check_store
from curation.stages.ingest.recognise import recognise
from curation.stages.ingest.recognise.place import place_of
from curation.stages.ingest.sources.listing import list_source
from curation.stages.ingest.sources.source import Source
from curation.store.store import Store

from .files import LISTS, LOCAL, listed_paths, pictures

FEW = pictures(4)
NAMES = (
    *("with space", " leading", "trailing ", "-dash", "~", "$HOME", "photos [2024]", "*", "what?"),
    *("café", "写真", "a#b", "100%25", "a:b", "it's", 'say "a"', "two\nlines", ".hidden"),
    *("a=b", "x.jpg"),
)


def written(path: Path | str, **options: Any) -> tuple[str, Recipe]:
    """The recipe that init writes, as text and parsed."""
    text = recipe_text(draft([str(path)], **options), "a.yaml")
    return text, parse_recipe(load_yaml(text))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Draft:
    """What init knows of a pool and of seeds."""
    folder = tmp_path_factory.mktemp("drafted")
    LOCAL["folder"](folder / "pool", FEW)
    LOCAL["folder"](folder / "seeds", FEW[:1])
    return draft([str(folder / "pool")], [str(folder / "seeds")])


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_folder_is_read_as_it_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given as an absolute path, and as a relative one; written into a recipe and read again."""
    LOCAL["folder"](tmp_path / name, FEW)
    LOCAL["embedded"](tmp_path / name / "tables", FEW)
    monkeypatch.chdir(tmp_path)
    for path in (str(tmp_path / name), name, f"./{name}/", f"{name}/tables"):
        place = place_of(path)
        fields = dict(recognise(place).fields)
        assert fields["format"] == ("parquet" if path.endswith("tables") else "folder")
        spec = yaml.safe_load(flow(place.source(**fields).model_dump(exclude_defaults=True)))
        found = survey(Source.model_validate(spec), OutboundParams())
        assert (found.rows, len(found.bad), found.local_images) == (4, 0, 4)


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    path = LISTS["csv"](tmp_path, ["http://a.example/1.jpg"]).rename(tmp_path / "list[1]*.csv")
    (tmp_path / "list1.csv").write_text("url\nhttp://a.example/2.jpg\n")
    _, recipe = written(path, contact="a@b.example")
    found = survey(recipe.sources[0], OutboundParams())
    assert [row.url for _, row in found.read] == ["http://a.example/1.jpg"]


def test_a_name_that_is_not_utf8_is_refused_with_a_way_out(tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    LOCAL["folder"](Path(folder), FEW)
    with pytest.raises(RecipeError, match="Make a link to it"):
        place_of(folder)
    (tmp_path / "link").symlink_to(folder)
    assert survey(written(tmp_path / "link")[1].sources[0], OutboundParams()).rows == 4


@pytest.mark.parametrize(
    ("form", "where"), [("folder", "."), ("embedded", ".."), ("webdataset", "../..")]
)
def test_the_printed_store_is_in_no_source(
    form: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stands in the folder of the pictures, or below, can paste what init prints."""
    LOCAL[form](tmp_path / "photos", FEW)
    inner = tmp_path / "photos" / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir({".": tmp_path / "photos", "..": inner.parent, "../..": inner}[where])
    done = CliRunner().invoke(app, ["init", where, "--out", "my recipe.yaml"])
    assert done.exit_code == 0, done.exception
    check, run = (shlex.split(line.removeprefix("next")) for line in done.output.splitlines()[-2:])
    assert check == ["curation", "check", "my recipe.yaml"]
    assert run[:4] == ["curation", "run", "my recipe.yaml", "--store"]
    recipe = load_recipe(run[2])
    check_store(recipe, Store(run[4]))
    assert not Path(run[4]).resolve().is_relative_to(tmp_path / "photos")
    comments = [line for line in Path(run[2]).read_text().splitlines() if "curation run" in line]
    assert shlex.split(comments[0])[1:] == run


def test_a_store_beside_the_source_stays_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LOCAL["folder"](tmp_path / "photos", FEW)
    monkeypatch.chdir(tmp_path)
    assert draft(["photos"]).store == "photos-store"


@pytest.mark.parametrize("form", ["captioned", "embedded"])
def test_the_cache_of_a_hub_is_read_through_its_links(form: str, tmp_path: Path) -> None:
    """Every file of a snapshot is a link to a blob; the recipe says that links are followed."""
    LOCAL[form](tmp_path / "made", FEW)
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1f3a"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted((tmp_path / "made").iterdir())):
        shutil.move(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    made = draft([str(snapshot)])
    assert made.trial.stored == 4
    assert "follow_links: true" in recipe_text(made, "a.yaml")
    if form == "embedded":
        (file,) = snapshot.iterdir()
        assert (
            survey(
                place_of(str(file)).source(format="parquet", columns={"image": "jpg"}),
                OutboundParams(),
            ).rows
            == 4
        )


def test_links_among_files_are_not_followed(tmp_path: Path) -> None:
    LOCAL["folder"](tmp_path / "a", FEW)
    LOCAL["folder"](tmp_path / "b", pictures(1, first=50))
    (tmp_path / "b" / "linked.jpg").symlink_to(tmp_path / "a" / "n000.jpg")
    # A list that cannot be read makes a folder of pictures none the less one.
    (tmp_path / "list.csv").write_text("url\nhttp://a.example/1.jpg\n")
    (tmp_path / "b" / "list.csv").symlink_to(tmp_path / "list.csv")
    place = place_of(str(tmp_path / "b"))
    assert (recognise(place).fields, place.links) == ({"format": "folder"}, False)


def test_what_is_there_and_not_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As metadata.csv of an image folder of the `datasets` library, whose captions would be lost."""
    listed_paths(tmp_path / "photos", FEW)
    (tmp_path / "photos" / "list.csv").rename(tmp_path / "photos" / "metadata.csv")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["init", "photos"])
    assert done.exit_code == 0, done.exception
    said = "Not read: metadata.csv of format csv"
    assert said in " ".join(done.output.split())
    assert said in (tmp_path / "photos.yaml").read_text()
    (source,) = written("photos/metadata.csv")[1].sources
    assert source.columns == {"path": "file_name", "caption": "text"}
    # Captions beside pictures, and tables of other tools, are no second thing.
    for form in ("captioned", "webdataset", "embedded", "hub"):
        LOCAL[form](tmp_path / form, FEW)
        assert recognise(place_of(form)).notes == ()


def test_lists_beside_tars_are_said(tmp_path: Path) -> None:
    LOCAL["webdataset"](tmp_path / "a", FEW)
    LISTS["parquet"](tmp_path / "a", ["http://a.example/1.jpg"])
    LISTS["csv"](tmp_path / "a", ["http://a.example/1.jpg"])
    notes = str(recognise(place_of(str(tmp_path / "a"))).notes)
    assert "Not read: list.parquet of format parquet" in notes
    assert "Not read: list.csv of format csv" in notes


def test_lists_that_are_no_source_are_said_too(tmp_path: Path) -> None:
    LOCAL["folder"](tmp_path / "a", FEW)
    (tmp_path / "a" / "labels.csv").write_text("id,label\n1,cat\n")
    (tmp_path / "a" / "cut.parquet").write_bytes(b"PAR1")
    notes = "".join(recognise(place_of(str(tmp_path / "a"))).notes)
    assert "labels.csv of format csv, since no column holds URLs" in notes
    assert "cut.parquet of format parquet, since" in notes


def imported(path: Path, ids: str, **changes: Any) -> dict[str, Any]:
    """A recipe over URLs with imported vectors alone."""
    source = {
        "name": "web",
        "role": "pool",
        "format": "parquet",
        "path": str(path / "list.parquet"),
    }
    encoder = {"import": str(path / "v.parquet"), "ids": {"join": "key", "column": ids}}
    return {
        "name": "mine",
        "sources": [source | {"columns": {"url": "URL", "key": "uid"}}],
        "fetch": {"pixels": "none"},
        "embed": {"encoders": {"semantic": encoder}},
        "cluster": {"levels": [1]},
        **changes,
    }


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    LISTS["parquet"](tmp_path, [f"http://a.example/{n}.jpg" for n in range(3)])
    lists = pa.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], pa.list_(pa.float32()))
    columns = {"id": ["u0", "u1", "u2"], "twice": ["u0", "u0", "u2"], "v": lists}
    pq.write_table(pa.table(columns), tmp_path / "v.parquet")
    return tmp_path


def test_a_recipe_that_requests_nothing_needs_no_contact(vectors: Path) -> None:
    checked = check_recipe(parse_recipe(imported(vectors, "id")))
    assert list(checked.problems) == []


@pytest.mark.parametrize(
    ("column", "problem"), [("twice", "1 ids are repeated"), ("idd", "no column 'idd'")]
)
def test_check_reads_imported_vectors_as_a_run_does(
    column: str, problem: str, vectors: Path
) -> None:
    (said,) = check_recipe(parse_recipe(imported(vectors, column))).problems
    assert said.startswith("embed.encoders.semantic: ")
    assert problem in said


@pytest.mark.parametrize(
    ("lists", "start"),
    [
        ("data", "data"),
        ("data", "data/photos"),
        ("data/lists", "data"),
        ("data/lists", "data/photos"),
        ("data/photos", "data/photos"),
        ("data/lists", "/"),
        ("data/photos", "/"),
        ("data/lists", "data/lists"),
    ],
)
@pytest.mark.parametrize("slash", ["/", "\\"])
def test_pictures_that_a_list_names_are_looked_for(
    lists: str, start: str, slash: str, tmp_path: Path
) -> None:
    r"""Below the folder of the list, below the one around it, and where absolute paths lead.

    Args:
        lists: folder of the list; the pictures are in data/photos.
        start: folder at which its paths start.
        slash: what stands between folders; `\` where Windows wrote the list.
    """
    LOCAL["folder"](tmp_path / "photos", FEW)
    # Of the same names, but some are missing.
    LOCAL["folder"](tmp_path / "few", FEW[:2])
    (tmp_path / "data").mkdir()
    for name in ("photos", "few"):
        (tmp_path / name).rename(tmp_path / "data" / name)
    (tmp_path / lists).mkdir(exist_ok=True)
    paths = [tmp_path / "data" / "photos" / f"{name}.jpg" for name, _, _ in FEW]
    named = [str(p) if start == "/" else os.path.relpath(p, tmp_path / start) for p in paths]
    named = named if start == "/" else [name.replace("/", slash) for name in named]
    file = tmp_path / lists / "list.csv"
    rows = "".join(f"{path},a fine picture {number}\n" for number, path in enumerate(named))
    file.write_text(f"image_path,caption\n{rows}")
    made = draft([str(file)])
    # No `root` allows a path that leaves it.
    leaves = named[0].startswith("..")
    assert made.trial.stored == (0 if leaves else len(FEW))
    assert ("set `root` to their folder" in str(made.notes)) == leaves


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "the path is empty"),
        (" \n", "the path is empty"),
        ("a\0b", "NUL"),
        ("https://user:word@lists.example/l.csv", "has credentials"),
        ("s3://user:word@bucket/l.csv", "has credentials"),
        ("s3://bucket/l.csv?secret_key=word", "has credentials"),
    ],
)
@pytest.mark.parametrize("role", ["pool", "seeds", "held_out"])
def test_a_path_that_no_source_may_have_is_one_message(
    tmp_path: Path, path: str, message: str, role: str
) -> None:
    LOCAL["folder"](tmp_path / "a", FEW)
    options = {} if role == "pool" else {role: [path]}
    pool = path if role == "pool" else str(tmp_path / "a")
    with pytest.raises(RecipeError, match=message) as error:
        written(pool, contact="a@b.example", **options)
    assert "word" not in str(error.value)


@pytest.mark.parametrize("path", ["/no/\ud800", "/no/\udc00\udfff", "/no/\udcff"])
def test_a_path_that_no_encoding_has_is_named_in_a_message(path: str) -> None:
    """Python gives such texts without YAML."""
    web = {"name": "web", "role": "pool", "format": "folder", "path": path}
    recipe = parse_recipe({"name": "x", "sources": [web]})
    with pytest.raises(RecipeError, match="no file at") as error:
        list_source(recipe.sources[0], 10)
    str(error.value).encode()


@pytest.mark.parametrize(
    "name", ["a" * 5_000 + ".jpg", f"/{'a/' * 3_000}b.jpg", "../" * 2_000 + "b.jpg"]
)
def test_a_list_may_name_pictures_that_no_file_system_has(name: str, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text(f"image_path,caption\n{name},a fine picture\n")
    assert "set `root` to their folder" in str(draft([str(file)]).notes)


@pytest.mark.parametrize(
    "name", ["2024", "2024-05-01", "1e5", "010", "0x1f", "1_000", "null", "true", "no", "on", "y"]
)
def test_a_name_that_yaml_reads_as_another_value_stays_a_name(name: str, photos: Draft) -> None:
    """Pictures are often in folders of years."""
    pool, seeds = photos.surveys
    curated = replace(seeds, source=seeds.source.model_copy(update={"name": name}))
    recipe = parse_recipe(
        load_yaml(recipe_text(replace(photos, name=name, surveys=[pool, curated]), "a.yaml"))
    )
    assert (recipe.name, recipe.sources[1].name) == (name, name)
    assert [(arm.name, arm.seeds) for arm in recipe.retrieve] == [
        (name, name),
        (f"{name}-near", name),
    ]


def test_arms_of_seeds_with_like_names_are_told_apart(photos: Draft) -> None:
    pool, seeds = photos.surveys
    names = ["a-near", "a", "a-near-2", "a-near-near"]
    curated = [
        replace(seeds, source=seeds.source.model_copy(update={"name": name})) for name in names
    ]
    drafted = replace(photos, surveys=[pool, *curated])
    recipe = parse_recipe(load_yaml(recipe_text(drafted, "a.yaml")))
    assert [arm.seeds for arm in recipe.retrieve] == [name for name in names for _ in range(2)]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system of the kernel")
def test_a_file_system_that_takes_no_folder_is_no_place_for_a_store(photos: Draft) -> None:
    recipe = parse_recipe(load_yaml(recipe_text(photos, "a.yaml")))
    with pytest.raises(StoreError, match=r"--store: No folder can be made at /proc/store.*another"):
        check_store(recipe, Store("/proc/store"))
