"""The bounds on the page about strangers are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation import log_file
from curation.media.encoders import (
    folder_config,
    onnx_files,
    onnx_trial,
    pickle_steps,
    private_copy,
    state,
)
from curation.media.encoders import texts as captions
from curation.media.files import limits, web_file
from curation.media.pictures.decoder_messages import MAX_HEADER_BYTES
from curation.media.pictures.decoder_worker import Limits
from curation.media.pictures.metadata import content_credentials, texts, xmp
from curation.media.web import block_list, host_names, lookups, urls
from curation.media.web.opt_outs import headers, robots_cache, robots_txt
from curation.stages.fetch import (
    byte_budget,
    client,
    decoding_times,
    faces,
    hosts,
    response_repair,
    robots_gate,
    scheduler,
    stored_image,
    turns,
)
from curation.stages.ingest.formats import samples, webdataset
from curation.telemetry import event_sink

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
PICTURE = Limits()


def kib(size: int) -> str:
    return f"{size >> 10:,} KiB"


def mib(size: int) -> str:
    return f"{size >> 20:,} MiB"


def gib(size: int) -> str:
    return f"{size >> 30:,} GiB"


def ki(count: int) -> str:
    return f"{count >> 10:,} Ki"


def mi(count: int) -> str:
    return f"{count >> 20:,} Mi"


BOUNDS: dict[str, list[str]] = {
    "Parquet: pages, dictionaries": [mib(limits.PARQUET_BYTES)],
    "Parquet: footer, schema": [
        mib(limits.PARQUET_FOOTER_BYTES),
        f"{limits.PARQUET_FOOTER_STRUCTS:,} structures",
        f"{limits.COLUMNS:,} columns",
        f"depth {limits.PARQUET_DEPTH}",
    ],
    "Parquet: pages that expand": [
        f"{limits.PARQUET_PAGES:,} headers",
        f"each {limits.PARQUET_LEAST_PAGE_BYTES // limits.PARQUET_REREAD_RATIO} bytes",
    ],
    "Parquet: objects within objects": [
        mib(limits.BATCH_BYTES),
        f"{mib(2 * limits.BATCH_BYTES)} a row",
        f"{limits.VALUES_RATIO} times",
    ],
    "Parquet: names of columns": [
        f"{limits.PARQUET_NAME_CHARACTERS:,} characters",
        mi(limits.PARQUET_NAMES),
    ],
    "Parquet: pictures with a key": [f"{limits.PICTURES:,}"],
    "gz, bz2": [
        mib(limits.EXPANSION_BYTES),
        f"{limits.EXPANSION_RATIO} times",
        f"window {mib(limits.DECOMPRESSOR_BYTES)}",
    ],
    "CSV: fields": [
        ki(limits.FIELD_CHARACTERS),
        mi(limits.RECORD_CHARACTERS),
        f"{limits.COLUMNS:,}",
        f"{limits.REREAD_RATIO} times",
    ],
    "JSON: lines": [mib(limits.LINE_BYTES), f"{limits.JSON_VALUES:,}", f"{limits.BOXES:,}"],
    "tar: long names": [kib(limits.MEMBER_HEADER_BYTES)],
    "tar: number": [f"{limits.MEMBERS:,} members", mib(limits.MEMBER_NAME_BYTES)],
    "tar: texts of all members": [gib(limits.MEMBER_TEXTS_BYTES)],
    "tars and folders": [
        mi(limits.METADATA_CHARACTERS),
        f"{webdataset._MAX_LINKS}",
        f"{samples._MAX_PARTS}",
    ],
    "COCO, FiftyOne": [mi(limits.JSON_FILE_BYTES), mi(limits.METADATA_CHARACTERS)],
    "Hugging Face": [f"{limits.JSON_VALUES:,}"],
    "WAT": [
        mib(limits.WAT_RECORD_BYTES),
        ki(limits.WAT_URL_CHARACTERS),
        f"{limits.WAT_PAGE_IMAGES:,}",
    ],
    "more rows or text": [
        f"{limits.ROWS:,}",
        mib(limits.EXPANSION_BYTES),
        f"{limits.EXPANSION_RATIO} times",
    ],
    "pipes, sockets, devices": [f"depth {limits.FOLDER_DEPTH}"],
    "a host whose pictures": [
        f"{decoding_times.FREE_S:.0f} s",
        f"{decoding_times.STORED_S:.0f} s for each",
        f"{decoding_times.REFUSED_S:g} s for each",
    ],
    "URLs of any kind": [f"{host_names._MAX_WRITTEN:,} characters"],
    "a name server without": [
        f"{lookups.PER_DOMAIN} at a time",
        f"{lookups.MAX_MISSED} misses",
        f"{lookups.MAX_THREADS} threads",
    ],
    "a name server with thousands": [
        f"{lookups.MAX_ADDRESSES} addresses",
        f"{lookups.MAX_CACHED:,} names",
        f"{lookups.CACHED_S:.0f} s",
    ],
    "a host that drips": [
        f"{turns.NEW_SHARE * 4:.0f}/4",
        f"within {turns.PROMPT_S:.0f} s",
        f"{turns.SLOW_SHARE * 2:.0f}/2",
        kib(byte_budget.SMALL_BYTES),
        mib(client._MAX_BODY_BYTES_IN_MEMORY),
        f"for {byte_budget.STALL_S:.0f} s",
    ],
    "bodies in tiny chunks": [
        f"{response_repair._MANY_CHUNKS:,}",
        f"{response_repair._CHUNK_BYTES} bytes",
    ],
    "heads, cookies": [
        kib(response_repair.MAX_HEAD_BYTES),
        f"{kib(response_repair.MAX_LINE_BYTES)} a field",
        "10⁹ s" if client._MAX_WAIT_S == 1e9 else "",
    ],
    "robots.txt: huge": [kib(robots_txt.MAX_BYTES)],
    "robots.txt: rules that take": [
        f"{robots_gate.MAX_RULES_S:.0f} s",
        f"{robots_gate.SLICE_S * 1000:.0f} ms",
    ],
    "many hosts with large": [mib(robots_cache.MAX_CACHE_BYTES)],
    "many hosts: state": [
        f"{scheduler.MAX_ROWS_IN_MEMORY:,} rows",
        f"{hosts.MAX_IDLE_HOSTS:,} idle",
    ],
    "links to licences": [f"first {headers.MAX_LINKS}"],
    "a block list": [
        mib(urls.MAX_BLOCK_LIST_BYTES),
        f"{block_list.MAX_CHARACTERS:,} characters",
    ],
    "tdmrep.json": [kib(robots_txt.MAX_BYTES)],
    "the server of a source: hangs": [
        mib(web_file._PART_BYTES),
        gib(web_file.MAX_BYTES),
        f"{gib(web_file.MAX_WITHOUT_RANGES)} without ranges",
    ],
    "a picture that does not end": [f"{PICTURE.processor_s} s", f"{PICTURE.wall_s:.0f} s"],
    "a picture that takes memory": [gib(PICTURE.memory_bytes)],
    "sides of a million": [f"{stored_image.MAX_SIDE:,}", f"{faces.DETECTION_SIDE}"],
    "boxes of faces": [f"{faces.MAX_BOXES:,}", f"{faces.MAX_BLURRED_AREA:.0f} areas"],
    "huge, nested or broken XMP": [
        mib(xmp.MAX_PACKET_BYTES),
        f"{xmp.MAX_PACKETS} packets",
        f"{texts.MAX_TEXT:,} characters",
    ],
    "manifests of C2PA": [
        f"{content_credentials.MAX_PERMISSIONS} uses",
        f"{content_credentials.MAX_CHARACTERS} characters",
    ],
    "an answer of a decoder": [f"JSON of {mib(MAX_HEADER_BYTES)}"],
    "regular expressions of a tokenizer": [f"{captions.MAX_CHARACTERS:,} characters"],
    "the same in the log file": [mib(log_file.MAX_BYTES)],
    "a server of lineage": [f"{event_sink.TIMEOUT_S:.0f} s"],
    "a graph that is nested": [
        f"{onnx_files.MAX_DEPTH} deep",
        f"{onnx_files.MAX_FIELDS // 10**6} million fields",
    ],
    "a graph that asks": [
        f"{onnx_trial.MEMORY_RATIO} times",
        gib(onnx_trial.MEMORY_MORE),
        f"{onnx_trial.WALL_S:.0f} s",
    ],
    "an answer to `curation weights`": [gib(private_copy.MAX_BYTES)],
    "a pickle of weights": [f"{pickle_steps.MAX_STEPS:,} steps"],
    "an archive with a long": [mib(state.MAX_DIRECTORY)],
    "archives and tensors": [mib(state.MAX_EXPANSION)],
    "files that are pipes": [
        gib(private_copy.MAX_BYTES),
        mib(private_copy.MAX_TEXT_BYTES[".json"]),
        mib(private_copy.MAX_TOKENIZER_BYTES),
    ],
    "a configuration of a gigantic": [
        f"{folder_config.MAX_LAYERS:,} layers",
        f"{folder_config.MAX_SIDE:,}",
        f"{folder_config.MAX_NUMBER // 10**6} million",
        f"{folder_config.MAX_RATIO} times",
        mib(folder_config.MAX_MORE),
    ],
}
"""The bounds of a row of the page, by how the row begins."""


@pytest.mark.parametrize("start", BOUNDS)
def test_a_row_of_the_page_has_the_bounds_of_the_code(start: str) -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    (row,) = (line for line in lines if line.startswith(f"| {start}"))
    bound = row.split(" | ")[1]
    assert [part for part in BOUNDS[start] if part not in bound] == []
