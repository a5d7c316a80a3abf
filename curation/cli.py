"""The command line: plan, calibrate, run, show, path, search, diff, report."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from curation import __version__
from curation.composition import expected_composition, expected_total
from curation.errors import CurationError, RecipeError
from curation.flow import Step, plan, run_fingerprint
from curation.recipe import Recipe, load_recipe

app = typer.Typer(
    help="Uncurated image-text pairs in, a curated, documented Parquet dataset out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
err = Console(stderr=True, highlight=False)

RecipePath = Annotated[str, typer.Argument(metavar="RECIPE", help="Path of the recipe (YAML).")]
StorePath = Annotated[str, typer.Option("--store", help="Folder or URI of the store.")]


def main() -> None:
    """Run the command line; what the user can mend is one message and a status, not a trace."""
    try:
        app()
    except CurationError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(2 if isinstance(error, RecipeError) else 1)


@app.callback(invoke_without_command=True)
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


# -- plan -----------------------------------------------------------------------------------------


@app.command("plan")
def plan_command(
    recipe: RecipePath,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    cost: Annotated[
        bool, typer.Option("--cost", help="Predict hours, bytes and money from declared counts.")
    ] = False,
    rates: Annotated[
        str | None, typer.Option("--rates", help="YAML of `curation calibrate`; needs --cost.")
    ] = None,
    prices: Annotated[str | None, typer.Option("--prices", help="YAML of prices.")] = None,
    assume: Annotated[
        list[str] | None, typer.Option("--assume", help="NAME=NUMBER; may be repeated.")
    ] = None,
) -> None:
    """Show the steps of a recipe and what its arms are expected to give, without opening data."""
    loaded = load_recipe(recipe)
    if cost:
        from curation.cost.tell import tell_cost

        tell_cost(loaded, rates, prices, assume or [], out, as_json)
        return
    steps = plan(loaded)
    composition = expected_composition(loaded)
    total = expected_total(composition)
    if as_json:
        out.print_json(json.dumps(_plan_json(loaded, steps, composition, total)))
        return
    grid = Grid("stage", "reads", "writes", "fingerprint", title=f"Plan of {loaded.name}")
    for step in steps:
        reads = ", ".join(t for names in step.reads.values() for t in names) or "sources"
        grid.add_row(step.name, reads, ", ".join(step.tables), step.fingerprint[:12])
    out.print(grid)
    if composition:
        out.print(_composition_grid("Expected composition", composition, total))


def _plan_json(
    recipe: Recipe, steps: tuple[Step, ...], composition: list[dict[str, Any]], total: int | None
) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
        "run": run_fingerprint(recipe),
        "steps": [
            {
                "stage": s.name,
                "number": s.stage.number,
                "kind": s.stage.kind,
                "upstream": list(s.upstream),
                "reads": [t for names in s.reads.values() for t in names],
                "tables": list(s.tables),
                "job": s.stage.job,
                "gpus": s.stage.gpus,
                "fingerprint": s.fingerprint,
            }
            for s in steps
        ],
        "composition": composition,
        "total_images": total,
    }


def _composition_grid(title: str, rows: list[dict[str, Any]], total: int | None) -> Grid:
    # Seed rows and sets stand in the Parquet file and the report; a terminal is narrow.
    hidden = ("arm", "strategy", *(("seed_set", "seed_rows") if "capped" in rows[0] else ()))
    names = [n for n in rows[0] if n not in hidden]
    grid = Grid("arm", "strategy", *(n.replace("_", " ") for n in names), title=title)
    for column in grid.columns:
        column.overflow = "fold"
        column.justify = "left" if column.header in ("arm", "strategy", "seed set") else "right"
    for row in rows:
        cells = (f"{row[n]:,}" if isinstance(row[n], int) else str(row[n] or "–") for n in names)
        grid.add_row(row["arm"], row["strategy"], *cells)
    grid.add_section()
    said = "–" if total is None else f"{total:,}"
    grid.add_row("total", "", *(said if n == "final" else "" for n in names))
    return grid


@app.command()
def calibrate(
    to: Annotated[str, typer.Option("--out", help="YAML file to write.")],
) -> None:
    """Measure what this machine does in a second, for `curation plan --cost --rates FILE`."""
    import yaml

    from curation.cost.calibrate import calibrate as measured

    spec = measured().model_dump()
    Path(to).write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    for name, value in spec.items():
        out.print(f"{name:<16} {value}")


# -- run ------------------------------------------------------------------------------------------


@app.command()
def run(
    recipe: RecipePath,
    store: StorePath,
    only: Annotated[str | None, typer.Option("--only", help="Run one stage.")] = None,
    first: Annotated[str | None, typer.Option("--from", help="Start at this stage.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="End with this stage.")] = None,
    cluster: Annotated[
        str, typer.Option("--cluster", help="Name or path of a conf/clusters file.")
    ] = "local",
) -> None:
    """Bring the tables of a recipe up to date; what is finished is not done again."""
    from curation.launch import choose, run_steps
    from curation.spark import load_cluster
    from curation.store import DATASET, Store

    loaded = load_recipe(recipe)
    steps = choose(plan(loaded), only, first, until)
    opened = Store(store)
    err.print(f"Recipe [bold]{escape(loaded.name)}[/] into {escape(opened.uri)}")
    outcomes = run_steps(steps, loaded, opened, load_cluster(cluster), _tell)
    if all(o.up_to_date for o in outcomes):
        out.print("Nothing to do: every table is up to date.")
    if any(s.tables == (DATASET,) for s in steps):
        _tell_result(opened, loaded)


def _tell(outcome: Any) -> None:
    if outcome.up_to_date:
        did = "up to date"
    else:
        did = f"{outcome.computed} computed" + (
            f", {outcome.reused} reused" if outcome.reused else ""
        )
    err.print(
        f"  {outcome.step.name:<11} {outcome.rows:>10,} rows  {outcome.seconds:6.1f} s  {did}"
    )


def _tell_result(store: Any, recipe: Recipe) -> None:
    from curation.composition import composition_of, told_target
    from curation.fragment import open_table
    from curation.report.build import report_path

    claims = open_table(store, "claims").manifest
    rows, total = composition_of(claims)
    dataset = open_table(store, "dataset")
    out.print(_composition_grid(f"Composition of {recipe.name}", rows, total))
    if "target" in claims.stats:
        out.print(f"target   {told_target(claims.stats['target'])}")
    out.print(f"dataset  {dataset.rows:,} images: {store.address(dataset_folder(dataset))}")
    out.print(f"report   {store.address(report_path(recipe))}")


def dataset_folder(dataset: Any) -> str:
    """Return the one folder of a dataset version, within the store."""
    return f"dataset/{dataset.manifest.version}"


# -- looking --------------------------------------------------------------------------------------

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
    from curation.fragment import open_table
    from curation.store import Store
    from curation.table import contract

    found = open_table(Store(store), table, version)
    manifest = found.manifest
    terms = contract(table)
    out.print(f"[bold]{escape(table)}[/]: {escape(terms.grain)}")
    out.print(f"version  {manifest.version}  ({manifest.created}, stage {manifest.stage})")
    out.print(f"path     {_home(found)}")
    out.print(f"rows     {manifest.rows:,} in {len(manifest.fragments)} fragments")
    for role, outcomes in manifest.books.items():
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
    from curation.fragment import open_table
    from curation.store import DATASET, Store

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
    from curation.search import Search, read_queries
    from curation.store import Store

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
    from curation.difference import difference, open_dataset

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

    from curation.difference import SCHEMA

    if to is None:
        yield lambda batch: None
        return
    with pq.ParquetWriter(to, SCHEMA) as writer:
        yield writer.write_batch


@app.command()
def report(recipe: RecipePath, store: StorePath) -> None:
    """Write the HTML report and the composition of a finished run again."""
    from curation.report.build import write_report
    from curation.store import Store

    opened = Store(store)
    out.print(opened.address(write_report(load_recipe(recipe), opened)))


if __name__ == "__main__":
    sys.argv[0] = Path(sys.argv[0]).name
    main()
