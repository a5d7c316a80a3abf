"""The same pictures in the forms in which people have them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq


class Picture(NamedTuple):
    """A picture with its caption; its name is its key."""

    name: str
    content: bytes
    caption: str


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Log nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine's loopback, and yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def as_folder(to: Path, pictures: list[Picture]) -> dict[str, Any]:
    """Write image files with their captions beside."""
    to.mkdir(parents=True)
    for name, content, caption in pictures:
        (to / f"{name}.jpg").write_bytes(content)
        (to / f"{name}.txt").write_text(caption)
    return {"format": "folder", "path": str(to)}


def as_webdataset(to: Path, pictures: list[Picture]) -> dict[str, Any]:
    """Write two tars."""
    to.mkdir(parents=True)
    for shard in range(2):
        with tarfile.open(to / f"{shard}.tar", "w") as tar:
            for name, content, caption in pictures[shard::2]:
                for ending, part in (("jpg", content), ("txt", caption.encode())):
                    info = tarfile.TarInfo(f"{name}.{ending}")
                    info.size = len(part)
                    tar.addfile(info, io.BytesIO(part))
    return {"format": "webdataset", "path": str(to)}


def as_list(to: Path, pictures: list[Picture]) -> dict[str, Any]:
    """Write a list of keys, captions and checksums, without the pictures."""
    to.mkdir(parents=True)
    rows = [
        {"key": p.name, "text": p.caption, "sha256": hashlib.sha256(p.content).hexdigest()}
        for p in pictures
    ]
    pq.write_table(pa.Table.from_pylist(rows), to / "list.parquet")
    columns = {"key": "key", "caption": "text", "sha256": "sha256"}
    return {"format": "parquet", "path": str(to / "list.parquet"), "columns": columns}


def as_parquet(to: Path, pictures: list[Picture]) -> dict[str, Any]:
    """Write a table with encoded images."""
    to.mkdir(parents=True)
    rows = [{"key": p.name, "jpg": p.content, "caption": p.caption} for p in pictures]
    pq.write_table(pa.Table.from_pylist(rows), to / "0.parquet", row_group_size=5)
    columns = {"image": "jpg", "caption": "caption", "key": "key"}
    return {"format": "parquet", "path": str(to), "columns": columns}


def as_huggingface(to: Path, pictures: list[Picture]) -> dict[str, Any]:
    """Write shards as the datasets library does (compared with its own files)."""
    features = {"image": {"_type": "Image"}, "text": {"dtype": "string", "_type": "Value"}}
    (to / "data").mkdir(parents=True)
    for shard in range(2):
        rows = [
            {"image": {"bytes": p.content, "path": f"{p.name}.jpg"}, "text": p.caption}
            for p in pictures[shard::2]
        ]
        write_features(to / "data" / f"train-{shard:05d}-of-00002.parquet", rows, features)
    return {"format": "huggingface", "path": str(to)}


def write_features(path: Path, rows: list[dict[str, Any]], features: dict[str, Any]) -> None:
    """Write a table with features in the metadata of its schema, as the datasets library does."""
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.Table.from_pylist(rows)
    schema = pa.schema(
        [
            (f.name, image if features[f.name].get("_type") == "Image" else f.type)
            for f in table.schema
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def as_coco(to: Path, pictures: list[Picture]) -> dict[str, Any]:
    """Write a list of COCO, whose images are in another folder."""
    (to / "annotations").mkdir(parents=True)
    (to / "val2017").mkdir()
    for name, content, _ in pictures:
        (to / "val2017" / f"{name}.jpg").write_bytes(content)
    document = {
        "info": {"year": 2017},
        "images": [{"id": n, "file_name": f"{p.name}.jpg"} for n, p in enumerate(pictures)],
        "annotations": [
            {"id": n, "image_id": n, "caption": p.caption} for n, p in enumerate(pictures)
        ],
    }
    path = to / "annotations" / "captions.json"
    path.write_text(json.dumps(document))
    return {"format": "coco", "path": str(path), "root": str(to / "val2017")}


def as_img2dataset(
    to: Path, pictures: list[Picture], output: str = "webdataset", **missing: str
) -> dict[str, Any]:
    """Download the pictures by img2dataset, without encoding them again.

    Args:
        to: folder of the output.
        pictures: the pictures.
        output: `webdataset`, `files` or `parquet`.
        missing: captions of pictures that the server does not have, by name.
    """
    as_folder(to.parent / f"{to.name}-served", pictures)
    to.mkdir(parents=True)
    captions = {p.name: p.caption for p in pictures} | missing
    with served(to.parent / f"{to.name}-served") as address:
        rows = [{"caption": c, "url": f"{address}/{name}.jpg"} for name, c in captions.items()]
        for shard in range(2):
            download(to, shard, rows[shard::2], output)
    return {"format": "img2dataset", "path": str(to)}


def download(to: Path, shard: int, rows: list[dict[str, str]], output: str) -> None:
    """Download one shard by img2dataset, in this process."""
    from img2dataset import writer
    from img2dataset.downloader import Downloader
    from img2dataset.resizer import Resizer

    writers = {
        "webdataset": writer.WebDatasetSampleWriter,
        "files": writer.FilesSampleWriter,
        "parquet": writer.ParquetSampleWriter,
    }
    listed = to.parent / f"{to.name}-{shard}.feather"
    with pa.OSFile(str(listed), "wb") as file:
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_file(file, table.schema) as feather:
            feather.write_table(table)
    Downloader(
        sample_writer_class=writers[output],
        resizer=Resizer(256, "no", False, disable_all_reencoding=True),
        thread_count=4,
        save_caption=True,
        extract_exif=False,
        output_folder=str(to),
        column_list=["caption", "url"],
        timeout=10,
        number_sample_per_shard=1000,
        oom_shard_count=5,
        compute_hash="sha256",
        verify_hash_type=None,
        encode_format="jpg",
        retries=0,
        user_agent_token=None,
        disallowed_header_directives=None,
    ).download_shard((shard, str(listed)))
