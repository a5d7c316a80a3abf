"""Commands that look at what is in a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table as Grid

from curation.cli.app import RecipePath, StorePath, app, dataset_folder, out
from curation.errors import RecipeError
from curation.recipe import load_recipe

TableName = Annotated[str, typer.Argument(metavar="TABLE", help="Name of a table.")]
Version = Annotated[str | None, typer.Option("--version", help="A version; default: the current.")]


@app.command()
def show(
    table: TableName,
    store: StorePath,
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, help="Rows of the sample.")] = 5,
    version: Version = None,
) -> None:
    """Print where a committed table is, its counts and a sample."""
    from curation.engine.contract import contract
    from curation.engine.store import Store
    from curation.engine.table import open_table

    found = open_table(Store(store), table, version)
    manifest = found.manifest
    terms = contract(table)
    out.print(f"[bold]{escape(table)}[/]: {escape(terms.grain)}")
    out.print(f"version  {manifest.version}  ({manifest.created}, stage {manifest.stage})")
    out.print(f"path     {_home(found)}")
    out.print(f"rows     {manifest.rows:,} in {len(manifest.fragments)} fragments")
    for role, outcomes in manifest.counts.items():
        counts = ", ".join(f"{name} {count:,}" for name, count in outcomes.items())
        out.print(f"{role:<8} {counts}")
    for name, value in manifest.stats.items():
        out.print(f"{escape(name)}: {escape(_short(value, 400))}")
    _sample(found, rows)


def _home(found: Any) -> str:
    paths = found.paths()
    return str(paths[0].rsplit("/", 1)[0]) if paths else "no files"


def _sample(found: Any, rows: int) -> None:
    taken: list[dict[str, Any]] = []
    for fragment in found.fragments.values():
        if len(taken) >= rows:
            break
        for batch in fragment.batches(rows=max(rows, 1)):
            taken += batch.slice(0, rows - len(taken)).to_pylist()
            break
    for number, row in enumerate(taken):
        out.print(f"[dim]row {number}[/]")
        for name, value in row.items():
            out.print(f"  {name:<22} {escape(_short(value, 120))}")


def _short(value: Any, limit: int) -> str:
    text = f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


@app.command()
def path(
    table: TableName,
    store: StorePath,
    folder: Annotated[
        bool, typer.Option("--dir", help="Print the one folder (dataset only).")
    ] = False,
    version: Version = None,
) -> None:
    """Print the Parquet files of a committed table, one absolute path a line."""
    from curation.engine.store import DATASET, Store
    from curation.engine.table import open_table

    opened = Store(store)
    found = open_table(opened, table, version)
    if folder:
        if table != DATASET:
            raise RecipeError(
                f"--dir is for the table dataset; {table!r} has no folder of its own."
            )
        typer.echo(opened.address(dataset_folder(found)))
        return
    for address in found.paths():
        typer.echo(address)


@app.command()
def search(
    recipe: RecipePath,
    store: StorePath,
    image: Annotated[
        list[Path] | None, typer.Option("--image", help="Picture to search with; repeatable.")
    ] = None,
    image_id: Annotated[
        list[str] | None, typer.Option("--id", help="image_id in the store; repeatable.")
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option("--vectors", help=".npy of floats (n, dim).")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Images wanted a query.")] = 10,
    exact: Annotated[bool, typer.Option("--exact", help="Pass over the index.")] = False,
    to: Annotated[str | None, typer.Option("--out", help="Parquet file to write.")] = None,
) -> None:
    """Find the images nearest to pictures, images or vectors, and whether they are in the dataset."""
    from curation.engine.store import Store
    from curation.inspect.search import Search, read_queries

    if sum(given is not None for given in (image or None, image_id or None, vectors)) != 1:
        raise RecipeError("Give one of --image, --id and --vectors.")
    over = Search(load_recipe(recipe), Store(store))
    if image:
        queries, names = over.vectors_of_pictures(image), [str(path) for path in image]
    elif image_id:
        queries, names = over.vectors_of(image_id), image_id
    else:
        queries = read_queries(vectors)  # type: ignore[arg-type]
        names = [f"{vectors}[{row}]" for row in range(len(queries))]
    found, index = over.nearest(queries, k, exact)
    if to is not None:
        import pyarrow.parquet as pq

        pq.write_table(found, to)
        out.print(f"{len(found):,} rows: {escape(to)}")
        return
    _tell_found(found.to_pylist(), names, index)


def _tell_found(rows: list[dict[str, Any]], names: list[str], index: str) -> None:
    columns = ("query", "rank", "similarity", "image_id", "source", "arms", "caption")
    grid = Grid(*columns, title=f"Nearest images, {index}")
    grid.columns[3].no_wrap, grid.columns[3].min_width = True, 32
    for row in rows:
        shown = [_short(names[row["query"]], 16), str(row["rank"]), f"{row['similarity']:.4f}"]
        shown += [row["image_id"], row["source"], ", ".join(row["arms"]) or "–"]
        grid.add_row(*(escape(text) for text in [*shown, _short(row["caption"] or "", 60)]))
    out.print(grid)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="STORE or STORE@VERSION.")],
    after: Annotated[str, typer.Argument(metavar="B", help="STORE or STORE@VERSION.")],
    to: Annotated[
        str | None, typer.Option("--out", help="Parquet file to write, a row an image.")
    ] = None,
) -> None:
    """Tell which images two datasets do not share, and why each is missing where it is missing."""
    from curation.inspect.diff import difference, open_dataset

    both = open_dataset(before), open_dataset(after)
    counts: Counter[tuple[str, str]] = Counter()
    with _difference_writer(to) as write:
        for batch in difference(*both):
            changes, reasons = (batch.column(n).to_pylist() for n in ("change", "reason"))
            counts.update((c, r or "") for c, r in zip(changes, reasons, strict=True))
            write(batch)
    grid = Grid("change", "why it is not in the other", "images", title=f"{before} → {after}")
    grid.columns[2].justify = "right"
    for (change, reason), images in sorted(counts.items(), key=lambda c: (c[0][0], -c[1])):
        grid.add_row(change.replace("_", " "), reason.replace("_", " "), f"{images:,}")
    out.print(grid if counts else "The same images, claimed by the same arms.")
    out.print(f"A  {both[0].rows:,} images, version {both[0].manifest.version}")
    out.print(f"B  {both[1].rows:,} images, version {both[1].manifest.version}")


@contextmanager
def _difference_writer(to: str | None) -> Iterator[Callable[[Any], None]]:
    import pyarrow.parquet as pq

    from curation.inspect.diff import SCHEMA

    if to is None:
        yield lambda batch: None
        return
    with pq.ParquetWriter(to, SCHEMA) as writer:
        yield writer.write_batch
