"""The command search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table as Grid

from curation.cli.app import (
    INSPECT_PANEL,
    AsJson,
    RecipePath,
    RunName,
    StorePath,
    app,
    out,
    print_facts,
)
from curation.cli.facts.tables import NearImage
from curation.cli.facts.tables import Search as SearchFacts
from curation.cli.inspect_commands import truncate
from curation.cli.output_file import as_html, as_parquet, whole_file
from curation.errors import Detail, RecipeError
from curation.recipe import load_recipe
from curation.terminal import one_line

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN_QUERY = 24
"""Characters of a query that are printed beside each image."""
MAX_PICTURES = 2000
"""Pictures of a contact sheet, each of which is a few kilobytes of the page."""
Texts = Annotated[
    list[str] | None,
    typer.Option(
        "--text", help="Text to search with, if the encoder has a text tower. It may be repeated."
    ),
]
ResultFile = Annotated[
    str | None,
    typer.Option(
        "--out",
        help="Parquet file to write the result to, instead of printing it.",
        callback=as_parquet,
    ),
]
ContactSheet = Annotated[
    Path | None,
    typer.Option(
        "--html",
        help="HTML file to write with the pictures: a contact sheet.",
        callback=as_html,
    ),
]


@app.command(rich_help_panel=INSPECT_PANEL)
def search(
    recipe: RecipePath,
    store: StorePath,
    run: RunName = None,
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", help="Image file to search with. It may be repeated."),
    ] = None,
    image_id: Annotated[
        list[str] | None,
        typer.Option("--id", help="image_id of the store to search with. It may be repeated."),
    ] = None,
    text: Texts = None,
    vectors: Annotated[
        Path | None,
        typer.Option("--vectors", help=".npy file to search with: floats of shape (n, dim)."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of images to find per query.")] = 10,
    exact: Annotated[
        bool, typer.Option("--exact", help="Search exactly, and ignore the index of the run.")
    ] = False,
    parquet: ResultFile = None,
    html: ContactSheet = None,
    as_json: AsJson = False,
) -> None:
    """Find the nearest images to files, texts, image ids or vectors, and the arms that claim them."""
    from curation.inspect.queries import read_queries
    from curation.inspect.report.search_page import write_sheet
    from curation.inspect.search import Search
    from curation.store.store import Store

    _check_one({"--image": image, "--id": image_id, "--text": text, "--vectors": vectors})
    searched = Search(load_recipe(recipe), Store(store), run)
    if vectors is not None:
        queries = read_queries(vectors)
        names = [f"{vectors}[{row}]" for row in range(len(queries))]
    elif image:
        queries, names = searched.vectors_of_files(image), [str(path) for path in image]
    elif image_id:
        queries, names = searched.vectors_of(image_id), image_id
    else:
        queries, names = searched.vectors_of_texts(text or []), text or []
    nearest, index = searched.nearest(queries, k, exact)
    if html is not None:
        _check_sheet(len(nearest), len(queries))
    if parquet is not None:
        _write_nearest(nearest, parquet)
    if html is not None:
        write_sheet(html, searched.images, nearest, names)
    written = [str(path) for path in (parquet, html) if path is not None]
    if as_json:
        images = [] if written else nearest.select(list(NearImage.model_fields)).to_pylist()
        spec = {"index": index, "queries": names, "images": images, "written": written}
        print_facts(SearchFacts.model_validate(spec))
    elif written:
        out.print(f"Wrote {len(nearest):,} rows to {' and '.join(written)}")
    else:
        # The folders of files are often the same, and would be all that is shown.
        labels = [Path(n).name for n in names] if image or vectors is not None else names
        _print_nearest(nearest.to_pylist(), labels, index)


def _check_sheet(pictures: int, queries: int) -> None:
    """Refuse a contact sheet of too many pictures."""
    if pictures <= MAX_PICTURES:
        return
    most = MAX_PICTURES // queries
    fix = (
        f"Take a -k of at most {most:,}" if most else f"Search for at most {MAX_PICTURES:,} queries"
    )
    message = f"the page would show {pictures:,} pictures, and may show {MAX_PICTURES:,}"
    raise RecipeError(Detail(message, "--html", fix=f"{fix}, or write the rows with --out"))


def _write_nearest(nearest: pa.Table, path: str) -> None:
    import pyarrow.parquet as pq

    with whole_file(path) as part:
        pq.write_table(nearest, part)


def _print_nearest(rows: list[dict[str, Any]], queries: list[str], index: str) -> None:
    columns = ("query", "rank", "similarity", "image_id", "source", "arms", "caption")
    grid = Grid(*columns, title=f"Nearest images, {index}")
    grid.columns[3].no_wrap, grid.columns[3].min_width = True, 32
    for row in rows:
        cells = [
            truncate(queries[row["query"]], SHOWN_QUERY),
            str(row["rank"]),
            f"{row['similarity']:.3f}",
            row["image_id"],
            row["source"],
            ", ".join(row["arms"]) or "–",
            truncate(row["caption"] or "", 60),
        ]
        grid.add_row(*(one_line(cell) for cell in cells))
    out.print(grid)
    # In lines of their own, because a place that is cut off leads nowhere.
    for row in {row["image_id"]: row for row in rows}.values():
        place = row.get("url") or row.get("location")
        if place:
            out.print(f"{row['image_id']}  {one_line(place)}")


def _check_one(given: Mapping[str, object]) -> None:
    """Refuse a command line that has none, or several, of some options."""
    named = [option for option, value in given.items() if value]
    if len(named) != 1:
        message = (
            f"{' and '.join(named)} are given, and one search has one of them"
            if named
            else "nothing is named to search for"
        )
        raise RecipeError(Detail(message, "", named, list(given), "Give exactly one"))
