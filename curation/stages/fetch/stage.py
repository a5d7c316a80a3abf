"""Stage fetch: pairs become pictures, or the reason why not, within bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.fragment import Fragment, stem_of
from curation.engine.store import Store
from curation.engine.table import Table
from curation.engine.units import Chain, ExecutionOnly, StageOutput, Unit
from curation.errors import RecipeError, StoreError
from curation.media.web.guard import Guard
from curation.media.web.urls import host_of, rules_of
from curation.stages.fetch.crawl import crawl
from curation.stages.fetch.inline import read_local
from curation.stages.fetch.outcome import Wanted
from curation.stages.fetch.params import FetchStep
from curation.stages.fetch.progress_notes import FetchProgress
from curation.stages.fetch.reuse import Earlier, earlier_images, fetched_before
from curation.stages.fetch.samples import ENCODED, FACTS, Samples
from curation.stages.fetch.work_shards import WorkShards

_ASKED = ("url_normalized", "location", "expected_sha256", "face_boxes", "status")
_FROM_PAIRS = ("pair_id", "role", "source", "source_key", "url", "caption", "metadata")
_FROM_SAMPLES = tuple(name for name in FACTS if name not in ("status", "reason"))
_ID_DIGITS = 32


def units(pairs: Table, *, params: FetchStep, context: Context) -> dict[str, dict[str, Any]]:
    """Return the arguments of `fetch` for each fragment."""
    rules = ExecutionOnly(rules_of(params.redirects, context))
    images, failures = earlier_images(params, context)
    return {
        name: {
            "pairs": own,
            "rules": rules,
            "earlier": Earlier(tuple(images.get(stem_of(name), ())), failures),
        }
        for name, own in pairs.fragments.items()
    }


def progress(store: Store, units: Sequence[Unit]) -> FetchProgress:
    """Return what describes how far the fetch of some fragments is."""
    return FetchProgress(store, units)


def chains(pairs: Table) -> dict[str, Chain]:
    """Return which fragments may share hosts: they are fetched one after the other.

    Hosts of two fragments that ingest cut into as many buckets are the same or all different; between
    others nothing is known, so they are fetched in phases of their own.
    """
    hosts = {name: own.record.stats.get("hosts") for name, own in pairs.fragments.items()}
    return {name: Chain(place[0], str(place[1])) for name, place in hosts.items() if place}


def fetch(
    pairs: Fragment, rules: ExecutionOnly, earlier: Earlier, *, params: FetchStep, workdir: str
) -> StageOutput:
    """Yield the images of one fragment, row by row as in `pairs`.

    Rows go through img2dataset's resizer and writer into shards in `workdir`, in order of
    completion; a run that is killed goes on from them. Returns the bytes fetched.

    Raises:
        RecipeError: hosts would be asked without knowing whom to write to.
        StoreError: a file that holds many images has vanished since ingest.
    """
    work = WorkShards(workdir, pairs.rows)
    work.scan()
    done, kept = work.done.copy(), 0
    with work.folder() as folder, Samples(folder, params, work) as samples:
        for row, image, facts in fetched_before(pairs, earlier, done, params):
            samples.keep(row, image, facts)
            done[row], kept = True, kept + 1
        for got in read_local(_wanted(pairs, done, located=True), params.max_bytes):
            samples.take(got)
        remote = _open_to_us(_wanted(pairs, done, located=False), params)
        crawl(remote, params, rules.value, samples.take)
    work.scan()
    fetched = 0
    for batch in _in_order(pairs, work):
        fetched += pc.sum(batch.column("bytes")).as_py() or 0
        yield batch
    return {"bytes": fetched, "rows_kept": kept}


def _wanted(pairs: Fragment, done: npt.NDArray[np.bool_], located: bool) -> Iterator[Wanted]:
    """Yield the rows that are neither dropped nor done, those with a location or the others."""
    row = -1
    for batch in pairs.batches(_ASKED):
        columns = (batch.column(name).to_pylist() for name in _ASKED)
        for url, location, sha256, faces, status in zip(*columns, strict=True):
            row += 1
            if status == "ok" and not done[row] and (location is not None) == located:
                yield Wanted(row, url, location, sha256, faces)


def _open_to_us(wanted: Iterator[Wanted], params: FetchStep) -> Iterator[Wanted]:
    """Yield the rows, as long as their hosts are the user's own or can see who asks."""
    guard = Guard(params.allow_hosts)
    for row in wanted:
        host = host_of(row.url or "")
        if params.contact is None and guard.may_ask(host) and not guard.names(host):
            raise RecipeError(
                f"fetch: {host} is somebody else's, and would not know who asks. Say under "
                "`fetch.contact` how you can be reached, an e-mail address or a page about your "
                "crawl (the User-Agent header will show it); hosts of your own go under "
                "`fetch.allow_hosts`."
            )
        yield row


def _in_order(pairs: Fragment, work: WorkShards) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in pairs.batches([*_FROM_PAIRS, "status", "reason"]):
        for first, end in work.windows(start, start + batch.num_rows):
            part = batch.slice(first - start, end - first)
            yield _images(part, *work.read(first, end), name=pairs.name)
        start += batch.num_rows


def _images(
    pairs: pa.RecordBatch, samples: pa.Table | None, at: npt.NDArray[np.int64], name: str
) -> pa.RecordBatch:
    """Return rows of `images`; `at` says which of `samples` each pair has, -1 for none."""
    asked = np.asarray(pc.equal(pairs.column("status"), "ok"))
    if (asked & (at < 0)).any():
        raise StoreError(
            f"Fragment {name}: {int((asked & (at < 0)).sum())} rows are missing from the work "
            "shards. Another run may be at work on the same store; run the same command again."
        )
    if samples is None:
        samples = pa.table({n: pa.nulls(0, t) for n, t in _sample_types()})
    index = pa.array(at, mask=at < 0)

    def of_sample(column: str) -> Any:
        return samples.column(column).combine_chunks().take(index)

    ok = pc.fill_null(pc.equal(of_sample("status"), "ok"), False)
    sha256 = of_sample("sha256")
    identity = pc.utf8_slice_codeunits(sha256, 0, _ID_DIGITS)
    columns = {n: pairs.column(n) for n in _FROM_PAIRS}
    columns |= {n: of_sample(n) for n in _FROM_SAMPLES}
    columns |= {
        "image_id": pc.if_else(ok, identity, pa.scalar(None, pa.string())),
        "status": pc.fill_null(of_sample("status"), "skipped"),
        "reason": pc.if_else(asked, of_sample("reason"), pairs.column("reason")),
        "image": of_sample(ENCODED),
    }
    schema = contract("images").arrow_schema()
    return pa.RecordBatch.from_arrays(
        [_one_array(columns[f.name]).cast(f.type) for f in schema], schema=schema
    )


def _sample_types() -> Iterator[tuple[str, pa.DataType]]:
    types = {f.name: f.type for f in contract("images").arrow_schema()}
    yield from ((n, types[n]) for n in ("status", "reason", *_FROM_SAMPLES))
    yield ENCODED, types["image"]


def _one_array(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
