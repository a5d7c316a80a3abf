"""Which hosts of a store somebody means who names a domain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.runner.takedown.search import parquet_files, table_of
from curation.store.storage.base import open_input
from curation.store.store import Store
from curation.store.url_hosts import hosts_of

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

PAIRS = "pairs"
_COLUMNS = ["url_normalized", "url"]


def rows_of_hosts(store: Store, domains: Collection[str]) -> Mapping[str, int]:
    """Return the hosts of a store that are one of some domains or below it, with their rows in `pairs`.

    The host with the most rows comes first. Rows count in all versions whose files are there.
    """
    wanted, rows = frozenset(domains), Counter[str]()
    for path in parquet_files(store) if wanted else ():
        if table_of(path) == PAIRS:
            # The search after it says which file it cannot read; a takedown does not wait for that.
            with suppress(OSError, pa.ArrowInvalid):
                rows.update(_hosts(store, path, wanted))
    return dict(sorted(rows.items(), key=lambda item: (-item[1], item[0])))


def _hosts(store: Store, path: str, wanted: frozenset[str]) -> Counter[str]:
    rows = Counter[str]()
    with open_input(store.storage, path) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(columns=_COLUMNS):
            urls = pc.coalesce(*(batch.column(name) for name in _COLUMNS)).to_pylist()
            for domains in map(hosts_of, filter(None, urls)):
                if not wanted.isdisjoint(domains):
                    rows[domains[0]] += 1
    return rows
