"""Compares two finished runs: rows of the dataset, composition, and counts by reason of every table.

    python scripts/same_run.py data/store /elsewhere/data/store

It reads the stores by their files alone, so that versions of the project can be compared. The name of
the run and the address of the store may differ; nothing else may.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq

HEADER = b"curation.manifest"
IGNORED = ("run",)
"""Columns of the dataset that name the run."""


def manifest(store: Path, table: str) -> dict[str, Any]:
    """Return the manifest of a table, of the version that the latest finished run wrote."""
    folder = store / "tables" / table
    records = (json.loads(path.read_text()) for path in sorted(store.glob("runs/*.json")))
    finished = [run for run in records if run["state"] == "finished" and table in run["tables"]]
    schema = pq.read_schema(folder / "versions" / f"{finished[-1]['tables'][table]}.parquet")
    header: dict[str, Any] = json.loads(schema.metadata[HEADER])
    return header


def dataset(store: Path) -> list[dict[str, Any]]:
    """Return the rows of the dataset by their image."""
    version = manifest(store, "dataset")["version"]
    rows = ds.dataset(store / "dataset" / version).to_table().to_pylist()
    kept = [{k: v for k, v in row.items() if k not in IGNORED} for row in rows]
    return sorted(kept, key=lambda row: (row["image_id"], row["pair_id"]))


def differences(one: Path, other: Path) -> Iterator[str]:
    """Yield what differs between two stores."""
    tables = [sorted(p.name for p in (s / "tables").iterdir()) for s in (one, other)]
    if tables[0] != tables[1]:
        yield f"tables: {tables[0]} and {tables[1]}"
    for table in sorted(set(tables[0]) & set(tables[1])):
        left, right = manifest(one, table), manifest(other, table)
        for field in ("rows", "counts"):
            if left[field] != right[field]:
                yield f"{table}: {field} {left[field]} and {right[field]}"
    compositions = [manifest(s, "claims")["stats"]["composition"] for s in (one, other)]
    if compositions[0] != compositions[1]:
        yield f"composition: {compositions[0]} and {compositions[1]}"
    rows = [dataset(s) for s in (one, other)]
    if len(rows[0]) != len(rows[1]):
        yield f"dataset: {len(rows[0])} and {len(rows[1])} rows"
    for left, right in zip(*rows, strict=False):
        if left != right:
            names = [name for name in {*left, *right} if left.get(name) != right.get(name)]
            yield f"dataset: image {left['image_id']} differs in {', '.join(sorted(names))}"
            break


def main() -> None:
    """Print what differs, and end with 1 if anything does."""
    parser = argparse.ArgumentParser(description="Compare two finished runs.")
    parser.add_argument("stores", nargs=2, type=Path, metavar="STORE")
    stores = parser.parse_args().stores
    lines = list(differences(*stores))
    for line in lines:
        print(line)
    if not lines:
        rows = len(dataset(stores[0]))
        print(f"The same: {rows} rows of the dataset, composition, and counts of every table.")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
