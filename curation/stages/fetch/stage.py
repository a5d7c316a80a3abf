"""fetch: downloads the image of each pair, within limits, or gives the reason why it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.engine.contract import contract
from curation.engine.units import StageOutput
from curation.errors import RecipeError, StoreError
from curation.media.files.location import open_location
from curation.media.web.guard import Guard
from curation.media.web.urls import UrlRules, host_of, port_of
from curation.stages.fetch.crawl import crawl
from curation.stages.fetch.forgotten import forget_samples
from curation.stages.fetch.local_files import read_local
from curation.stages.fetch.params import FetchStep
from curation.stages.fetch.request import FetchRequest, FetchResult
from curation.stages.fetch.reuse import reusable_rows, rules_digest
from curation.stages.fetch.sample_schema import IMAGE_FORMAT, SHARED_COLUMNS
from curation.stages.fetch.sample_writer import SampleWriter
from curation.stages.fetch.seen_opt_outs import seen_opt_outs
from curation.stages.fetch.units import Prepared
from curation.stages.fetch.without_pixels import FROM_PAIRS, rows_without_pixels
from curation.stages.fetch.work_shards import WorkShards
from curation.store.fragment import Fragment
from curation.store.manifest import CONTAINERS
from curation.store.tombstones import Takedowns
from curation.store.work_folder import WorkFolder

_REQUEST_COLUMNS = (
    "pair_id",
    "url_normalized",
    "location",
    "expected_sha256",
    "face_boxes",
    "status",
)
_FROM_SAMPLES = tuple(name for name in SHARED_COLUMNS if name not in ("status", "reason"))
_ID_DIGITS = 32
_ROWS_READ_BACK = 4096


def fetch(
    pairs: Fragment,
    rules: UrlRules,
    prepared: Prepared,
    *,
    params: FetchStep,
    workdir: WorkFolder,
    waiting: Callable[[], None],
) -> StageOutput:
    """Fetch the images of one fragment; or none, if the recipe leaves pixels out.

    Rows are written to shards in `workdir` in order of completion, by the resizer and writer of
    img2dataset. A run that was killed continues from them.

    Args:
        pairs: the fragment.
        rules: the URL rules that redirects must follow.
        prepared: what the driver has read for the fragment.
        params: limits, and how images are stored.
        workdir: folders of the store for shards.
        waiting: called once mostly slow hosts are left.

    Yields:
        Batches of `images`, aligned with `pairs`.

    Returns:
        The bytes fetched, and the number of rows reused.

    Raises:
        RecipeError: a host would be requested without `fetch.contact`.
        StoreError: a file with many images is missing or damaged since ingest read it.
    """
    if params.pixels == "none":
        yield from rows_without_pixels(pairs, rules.takedowns)
        return {"bytes": 0, "rows_kept": 0, "rules": rules_digest(rules)}
    params = params.model_copy(update={"faces": prepared.faces})
    work = WorkShards(workdir, pairs.rows)
    work.adopt()
    work.scan()
    done, reused, targets = work.done.copy(), 0, dict[int, str | None]()
    with work.folder() as folder, SampleWriter(folder, params, work) as writer:
        for row, image, columns in reusable_rows(_requests(pairs, done), prepared.earlier, params):
            writer.write_reused(row, image, columns)
            done[row], reused = True, reused + 1
            targets[row] = columns["final_url"]
        located = (request for request in _requests(pairs, done) if request.location is not None)
        open_file, versions = partial(_open_file, params), pairs.stats.get(CONTAINERS)
        _write_all(read_local(located, params.max_bytes, open_file, versions), writer)
        remote = (request for request in _requests(pairs, done) if request.location is None)
        crawl(_check_contact(remote, params), params, rules, writer.write_result, waiting)
        # Shards that are written later override those before them.
        _write_all(seen_opt_outs(_requests(pairs, ~done), targets, params), writer)
    work.scan()
    fetched = 0
    for batch in _in_row_order(pairs, work, rules.takedowns):
        fetched += pc.sum(batch.column("bytes")).as_py() or 0
        yield batch
    return {"bytes": fetched, "rows_kept": reused, "rules": rules_digest(rules)}


def _requests(pairs: Fragment, done: npt.NDArray[np.bool_]) -> Iterator[FetchRequest]:
    """Yield the rows that are neither dropped nor done."""
    row = -1
    for batch in pairs.batches(_REQUEST_COLUMNS):
        columns = (batch.column(name).to_pylist() for name in _REQUEST_COLUMNS)
        for pair_id, url, location, sha256, faces, status in zip(*columns, strict=True):
            row += 1
            if status == "ok" and not done[row]:
                yield FetchRequest(row, url, location, sha256, faces, pair_id)


def _write_all(results: Iterator[FetchResult], writer: SampleWriter) -> None:
    for result in results:
        writer.write_result(result)
        # Its file would stay while the next one is read.
        del result


def _open_file(params: FetchStep, path: str) -> pa.NativeFile:
    return open_location(params.signed.get(path, path), params)


def _check_contact(rows: Iterator[FetchRequest], params: FetchStep) -> Iterator[FetchRequest]:
    """Yield the rows; raise an error for a host that is not listed if there is no contact."""
    guard = Guard(params.allow_hosts, params.ports)
    for row in rows:
        host, port = host_of(row.url or ""), port_of(row.url or "")
        if params.contact is None and guard.may_request(host, port) and not guard.is_listed(host):
            raise RecipeError(
                f"`fetch.contact` is required before {host} is requested",
                fix=(
                    "Set it to an e-mail address, or to a web page about your crawl, so that the "
                    "host can see in the User-Agent header how to reach you. List your own hosts "
                    "under `fetch.allow_hosts`"
                ),
            )
        yield row


def _in_row_order(
    pairs: Fragment, work: WorkShards, takedowns: Takedowns | None
) -> Iterator[pa.RecordBatch]:
    """Yield batches of `images`, read back from the shards in the order of `pairs`.

    Shards, and rows that are reused, may be older than what was taken down.
    """
    start = 0
    # Of few large batches, since each window reads all row groups that have one of its rows.
    for batch in pairs.batches([*FROM_PAIRS, "status", "reason"], rows=_ROWS_READ_BACK):
        for first, end in work.windows(start, start + batch.num_rows):
            part = batch.slice(first - start, end - first)
            samples, index = work.read(first, end)
            if samples is not None:
                samples = forget_samples(samples, takedowns)
            yield _images(part, samples, index, name=pairs.name)
        start += batch.num_rows


def _images(
    pairs: pa.RecordBatch, samples: pa.Table | None, index: npt.NDArray[np.int64], name: str
) -> pa.RecordBatch:
    """Return rows of `images`.

    Args:
        pairs: the rows.
        samples: their samples, in any order.
        index: which sample each row has, (rows,); -1 for none.
        name: of the fragment, for messages.
    """
    requested = np.asarray(pc.equal(pairs.column("status"), "ok"))
    missing = requested & (index < 0)
    if missing.any():
        raise StoreError(
            f"Fragment {name}: {int(missing.sum())} rows are missing from the shards of unfinished "
            "work; another run may be using the same store",
            fix="Run the same command again",
        )
    if samples is None:
        samples = pa.table({n: pa.nulls(0, t) for n, t in _sample_types()})
    sample_of_row = pa.array(index, mask=index < 0)

    def of_sample(column: str) -> Any:
        return samples.column(column).combine_chunks().take(sample_of_row)

    ok = pc.fill_null(pc.equal(of_sample("status"), "ok"), False)
    image_id = pc.utf8_slice_codeunits(of_sample("sha256"), 0, _ID_DIGITS)
    columns = {n: pairs.column(n) for n in FROM_PAIRS}
    columns |= {n: of_sample(n) for n in _FROM_SAMPLES}
    columns |= {
        "image_id": pc.if_else(ok, image_id, pa.scalar(None, pa.string())),
        "status": pc.fill_null(of_sample("status"), "skipped"),
        "reason": pc.if_else(requested, of_sample("reason"), pairs.column("reason")),
        "image": of_sample(IMAGE_FORMAT),
        "metadata": _with_details(pairs.column("metadata"), of_sample("detail")),
    }
    return pa.record_batch(columns, schema=contract("images").arrow_schema())


def _with_details(metadata: pa.Array, details: pa.Array) -> pa.Array:
    """Return the metadata of rows, with what is known of an exception that nothing foresaw."""
    if details.null_count == len(details):
        return metadata
    rows = zip(metadata.to_pylist(), details.to_pylist(), strict=True)
    return pa.array([m if d is None else _with_detail(m, d) for m, d in rows], metadata.type)


def _with_detail(metadata: str | None, detail: str) -> str:
    values = json.loads(metadata) if metadata else {}
    return json.dumps(values | {"error": detail}, sort_keys=True)


def _sample_types() -> Iterator[tuple[str, pa.DataType]]:
    types = {f.name: f.type for f in contract("images").arrow_schema()}
    yield from ((n, types[n]) for n in ("status", "reason", *_FROM_SAMPLES))
    yield "detail", pa.string()
    yield IMAGE_FORMAT, types["image"]
