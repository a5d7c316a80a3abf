"""What used to mislead people who look at a store: `show`, versions, `search`, `--help`."""

from __future__ import annotations

import json
import shlex
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
import yaml
from PIL import Image
from typer.testing import CliRunner

import curation
from curation.cli import app
from curation.cli.examples import EXAMPLES
from curation.errors import RecipeError, StoreError
from curation.inspect.api.store import OpenStore
from curation.inspect.search import Search
from curation.store.store import Store

from ..embed.models_on_disk import clip_folder
from ..gc.helpers import edited, recipe_of, run_recipe
from ..takedown.helpers import url_of
from .conftest import Made

run = CliRunner().invoke


@pytest.fixture(scope="module")
def recipe_file(made: Made, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(made.recipe))
    return str(path)


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("command", ["show", "path"])
def test_a_wrong_version_is_said_to_be_wrong(made: Made, command: str) -> None:
    place = ["--store", str(made.store)]
    wrong = run(app, [command, "dataset", "--version", "wrong", *place])
    assert isinstance(wrong.exception, StoreError)
    assert "There is no version 'wrong' of table 'dataset'" in str(wrong.exception)
    assert made.second.tables["dataset"] in str(wrong.exception)
    with pytest.raises(StoreError, match="There is no version 'wrong'"):
        curation.open(made.store).table("dataset", version="wrong")


def test_the_beginning_of_a_version_or_run_is_enough_everywhere(
    made: Made, recipe_file: str
) -> None:
    store, version = str(made.store), made.first.tables["eligible"]
    dataset, name = made.first.tables["dataset"][:8], made.first.run[:-2]
    for command in (
        ["show", "eligible", "--version", version[:8], "--store", store],
        ["path", "eligible", "--version", version[:8], "--store", store],
        ["show", "eligible", "--run", name, "--store", store],
        ["diff", f"{store}@{dataset}", f"{store}@{name}"],
        ["status", "--run", name, "--store", store],
        ["sql", store, "FROM eligible", "--run", name],
        ["why", "p1", "--run", name, "--store", store],
        ["opt-outs", "--run", made.second.run[:-2], "--store", store, recipe_file],
        [
            "search",
            recipe_file,
            "--run",
            made.second.run[:-2],
            "--store",
            store,
            "--id",
            _image(made),
        ],
    ):
        done = run(app, command)
        assert done.exit_code == 0, (command, done.output, done.exception)


def _image(made: Made) -> str:
    with curation.open(made.store) as store:
        return str(store.vectors("semantic").image_ids[0])


def test_a_picture_is_as_near_as_can_be_to_itself(
    made: Made, recipe_file: str, opened: OpenStore, tmp_path: Path
) -> None:
    """Vectors are stored as float16, and 0.9999 would look as if it were another picture."""
    ids = sorted(set(opened.vectors("semantic").image_ids))
    words = ["search", recipe_file, "--store", str(made.store), "-k", "1"]
    for image_id in ids:
        words += ["--id", str(image_id)]
    page = tmp_path / "sheet.html"
    assert run(app, words).output.count(" 1.000") == len(ids)
    # Digits count in either case, as for `why`.
    assert run(app, [*words[:-1], words[-1].upper()]).exit_code == 0
    assert run(app, [*words, "--html", str(page)]).exit_code == 0
    assert page.read_text().count("<b>1.000</b>") == len(ids)


def test_rows_say_of_which_file_they_are(made: Made, recipe_file: str, tmp_path: Path) -> None:
    """Only the folder was shown of a long path."""
    folder = tmp_path / ("a-folder-with-a-long-name" * 3)
    folder.mkdir()
    rows = pq.read_table(made.recipe["sources"][0]["path"]).to_pylist()
    words = ["search", recipe_file, "--store", str(made.store), "-k", "1"]
    for number in (1, 3):
        (folder / f"p{number}.png").write_bytes(rows[number]["image"])
        words += ["--image", str(folder / f"p{number}.png")]
    shown = run(app, words)
    assert shown.exit_code == 0, shown.exception
    assert "p1.png" in shown.output and "p3.png" in shown.output


def test_show_names_the_files_of_the_version_alone(made: Made) -> None:
    """What `show` says to run lists files whose rows are those that `show` counts."""
    shown = run(app, ["show", "eligible", "--store", str(made.store), "-n", "0"]).output
    lines = dict(line.split(None, 1) for line in shown.splitlines() if " " in line)
    command = shlex.split(lines["files"])
    assert command[0] == "curation"
    paths = run(app, command[1:]).output.split()
    rows = sum(pq.read_metadata(path).num_rows for path in paths)
    assert lines["rows"].startswith(f"{rows} in ")
    folder = Path(paths[0]).parent
    assert rows < sum(pq.read_metadata(path).num_rows for path in folder.iterdir())
    assert str(folder) not in shown
    query = shlex.split(lines["query"])
    answer = run(app, [*query[1:], "--json"]).output
    assert answer.count("pair_id") == rows
    assert float(lines["seconds"].split()[0]) >= 0


def test_search_says_where_the_pictures_are(
    made: Made, recipe_file: str, opened: OpenStore, tmp_path: Path
) -> None:
    place = ["--store", str(made.store)]
    images = opened.table("images").arrow(["image_id", "source_key"]).to_pylist()
    ids = {str(row["source_key"]): str(row["image_id"]) for row in images}
    rows = run(app, ["search", recipe_file, *place, "--id", ids["p1"], "-k", "3"])
    assert rows.exit_code == 0, rows.exception
    assert f"{ids['p1']}  {url_of('p1')}" in rows.output
    seed = ids["s1"]
    shown = run(app, ["search", recipe_file, *place, "--id", seed, "-k", "1"]).output
    (location,) = opened.sql("SELECT location FROM pairs WHERE source_key = 's1'").fetchall()[0]
    assert f"{seed}  {location}" in shown
    page = tmp_path / "sheet.html"
    sheet = run(app, ["search", recipe_file, *place, "--id", seed, "-k", "12", "--html", str(page)])
    assert sheet.exit_code == 0, sheet.exception
    html = page.read_text()
    assert html.count("data:image/jpeg;base64,") == len(set(opened.vectors("semantic").image_ids))
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert url_of("p1") in html


def test_a_contact_sheet_has_a_bounded_number_of_pictures(
    made: Made, recipe_file: str, opened: OpenStore, tmp_path: Path
) -> None:
    stored = opened.vectors("semantic").vectors
    queries, page = tmp_path / "queries.npy", tmp_path / "sheet.html"
    np.save(queries, stored[np.arange(2001) % len(stored)])
    search = ["search", recipe_file, "--store", str(made.store), "--vectors", str(queries)]
    refused = run(app, [*search, "-k", "1", "--html", str(page)])
    assert isinstance(refused.exception, RecipeError)
    assert "2,001 pictures, and may show 2,000" in str(refused.exception)
    assert "at most 2,000 queries" in str(refused.exception)
    assert not page.exists()


def test_the_file_of_a_picture_finds_the_vector_that_is_stored(
    made: Made, opened: OpenStore, tmp_path: Path
) -> None:
    """What is stored was encoded again: the file itself would give another vector."""
    rows = pq.read_table(made.recipe["sources"][0]["path"]).to_pylist()
    stored = opened.vectors("semantic")
    vectors = dict(zip(stored.image_ids, stored.vectors, strict=True))
    searched = Search(recipe_of(made.recipe), Store(made.store))
    files = [tmp_path / f"{row['key']}.png" for row in rows]
    for file, row in zip(files, rows, strict=True):
        file.write_bytes(row["image"])
    named = {f: sha256(f.read_bytes()).hexdigest()[:32] for f in files}
    known = [file for file in files if named[file] in vectors]
    assert len(known) > 6
    other = tmp_path / "other.png"
    Image.open(known[0]).rotate(90).save(other)
    asked = [*known[:2], other, *known[2:]]
    queries = searched.vectors_of_files(asked)
    for query, file in zip(queries, asked, strict=True):
        if file != other:
            np.testing.assert_array_equal(query, vectors[named[file]])
    assert not any((queries[2] == query).all() for query in np.delete(queries, 2, axis=0))
    nearest, _ = searched.nearest(queries, 1)
    assert [nearest["image_id"][n].as_py() for n in (0, 1)] == [named[f] for f in known[:2]]


def test_search_takes_texts_where_the_encoder_has_a_text_tower(made: Made, tmp_path: Path) -> None:
    """A text is embedded as a caption of the same model is."""
    pictures = clip_folder(tmp_path / "clip", seed=0)
    encoders = {"semantic": pictures, "words": {**pictures, "of": "caption"}}
    spec = edited(
        made.recipe,
        embed={"batch_size": 4, "encoders": encoders},
        cluster={"levels": [2], "encoder": "semantic"},
        dedup={"near": None},
    )
    run_recipe(spec, tmp_path / "store")
    search = Search(recipe_of(spec), Store(tmp_path / "store"))
    with curation.open(tmp_path / "store") as store:
        words = store.vectors("words")
        captions = (
            store.table("images").pandas(["pair_id", "caption"]).set_index("pair_id")["caption"]
        )
    texts = [captions[pair_id] for pair_id in words.pair_ids]
    np.testing.assert_array_equal(search.vectors_of_texts(texts), words.vectors)
    nearest, _ = search.nearest(search.vectors_of_texts(texts[:1]), 2)
    assert nearest.num_rows == 2
    written = tmp_path / "recipe.json"
    written.write_text(json.dumps(spec))
    command = ["search", str(written), "--store", str(tmp_path / "store"), "--text", texts[0]]
    printed = json.loads(run(app, [*command, "-k", "2", "--json"]).stdout)
    assert [image["image_id"] for image in printed["images"]] == nearest["image_id"].to_pylist()
    with pytest.raises(RecipeError, match=r"vit_micro.* has no text tower.*open_clip"):
        Search(recipe_of(made.recipe), Store(made.store)).vectors_of_texts(["a dog"])


def test_help_groups_the_commands_with_one_valid_example_each() -> None:
    shown = words(run(app, ["--help"], env={"COLUMNS": "200"}).output.replace("│", " "))
    for panel in ("Plan and run recipes", "Look at the results of a run", "Look after a store"):
        assert panel in shown
    group = typer.main.get_command(app)
    assert set(EXAMPLES) == set(group.commands)  # type: ignore[attr-defined]
    for name, example in EXAMPLES.items():
        assert shown.count(words(example)) == 1, example
        assert "[" not in example
        arguments = shlex.split(example)[1:]
        assert arguments[0] == name
        context = group.make_context("curation", list(arguments))
        _, command, rest = group.resolve_command(context, arguments)  # type: ignore[attr-defined]
        # Raises an error of the command line if an option or argument is missing or unknown.
        command.make_context(name, list(rest), parent=context)


def test_opt_outs_of_a_recipe_are_not_those_of_a_run_of_another(
    made: Made, tmp_path: Path, recipe_file: str
) -> None:
    """Whichever of the two was passed over, nobody would be told."""
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(edited(made.recipe, ingest={"rows_per_fragment": 3})))
    words = ["opt-outs", "--store", str(made.store), "--run", made.second.run]
    assert run(app, [*words, recipe_file]).exit_code == 0
    other.write_text(yaml.safe_dump(edited(made.recipe, fetch={"max_pixels": 10_000})))
    refused = run(app, [*words, str(other)])
    assert isinstance(refused.exception, StoreError)
    assert f"images of run {made.second.run}" in str(refused.exception)


def test_the_query_that_show_prints_is_valid_whatever_an_encoder_is_called(
    made: Made, tmp_path: Path
) -> None:
    names = ("my-2nd", "2nd", "select", "plain")
    encoders = {name: {"model": "vit_micro"} for name in names}
    spec = edited(
        made.recipe,
        embed={"batch_size": 4, "encoders": encoders},
        cluster={"levels": [2], "encoder": "plain"},
        dedup={"near": None},
    )
    run_recipe(spec, tmp_path / "store", until="embed")
    for name in names:
        table = f"embeddings.{name}"
        shown = run(app, ["show", table, "--store", str(tmp_path / "store"), "-n", "0"]).output
        (line,) = (line for line in shown.splitlines() if line.startswith("query"))
        done = run(app, [*shlex.split(line)[2:], "-n", "0"])
        assert done.exit_code == 0, (line, done.exception)
