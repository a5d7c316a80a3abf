"""What a shell completes after Tab: stages, tables, runs, versions, tags and clusters.

A store that is named is read; what cannot be read is not completed. Nothing is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from curation.store.store import Store

NEWEST = 50
"""Runs that are offered, the latest first."""


def _of_store(names: Callable[[Store, Any], Iterable[str]]) -> Callable[..., list[str]]:
    """Return what completes a name of the store that the command line names."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        from curation.errors import CurationError
        from curation.store.store import Store

        address = ctx.params.get("store") or _first_argument(ctx)
        try:
            candidates = names(Store(address), ctx) if address else ()
            return [name for name in candidates if name.startswith(incomplete)]
        except (CurationError, OSError):
            return []

    return complete


def _first_argument(ctx: typer.Context) -> str | None:
    """Return the first argument, if it is the store, as that of `sql`.

    Where an option lacks its value, as here, the parser leaves the arguments as they are.
    """
    first = ctx.command.params[0]
    is_store = first.name == "store" and first.param_type_name == "argument"
    return next(iter(ctx.args), None) if is_store else None


def _runs(store: Store, _: Any) -> list[str]:
    from curation.store.run_log import run_paths
    from curation.store.run_record import FOLDER

    return list(run_paths(store.storage.files(FOLDER)))[:NEWEST]


def _tags(store: Store, _: Any) -> list[str]:
    from curation.store.tags import read_tags

    return [tag.name for tag in read_tags(store)]


def _versions(store: Store, ctx: typer.Context) -> list[str]:
    # Where an option lacks its value, as here, the parser leaves the arguments as they are.
    table = ctx.params.get("table") or next(iter(ctx.args), None)
    return store.versions(table) if table else []


complete_tag = _of_store(_tags)
complete_run = _of_store(lambda store, ctx: [*_tags(store, ctx), *_runs(store, ctx)])
complete_version = _of_store(_versions)
_stored_tables = _of_store(lambda store, _: store.tables())


def complete_table(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the tables of the store, or all that there may be if no store is named."""
    if ctx.params.get("store"):
        return _stored_tables(ctx, incomplete)
    from curation.engine.contract import contracts

    return [name for name in contracts() if name.startswith(incomplete)]


def complete_stage(incomplete: str) -> list[str]:
    """Return the stages whose names begin so."""
    from curation.flow import STAGES

    return [name for name in STAGES if name.startswith(incomplete)]


def complete_cluster(incomplete: str) -> list[str]:
    """Return the files of `conf/clusters` whose names begin so."""
    from curation.engine.resources import resource_dir

    files = sorted((resource_dir("conf") / "clusters").glob("*.yaml"))
    return [path.stem for path in files if path.stem.startswith(incomplete)]
