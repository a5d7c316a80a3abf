"""Only the modules that are named here can open a connection: all others use theirs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.structure import modules

LIBRARIES = frozenset(
    (
        *(
            "socket",
            "socketserver",
            "ssl",
            "ftplib",
            "smtplib",
            "xmlrpc",
            "http.client",
            "http.server",
        ),
        *("urllib.request", "urllib3", "requests", "httpx", "aiohttp", "websockets", "paramiko"),
        *("fsspec", "pyarrow.fs", "obstore", "boto3", "botocore", "s3fs", "gcsfs", "adlfs"),
        *("huggingface_hub", "transformers", "datasets", "open_clip", "timm", "torch.hub"),
        *("img2dataset", "webdataset", "wandb"),
    )
)
"""What opens connections, or downloads by itself."""
CALLS = frozenset(
    (
        *("open_connection", "create_connection", "getaddrinfo", "gethostbyname", "urlopen"),
        *(
            "urlretrieve",
            "from_uri",
            "url_to_fs",
            "load_state_dict_from_url",
            "download_url_to_file",
        ),
        *("hf_hub_download", "snapshot_download"),
    )
)
"""Functions that do so, of any library."""
ALLOWED = {
    # Requests of strangers' servers: the guard, and what keeps its policy.
    "media.web.guard": {"socket", "aiohttp", "getaddrinfo"},
    "media.web.lookups": {"socket", "aiohttp", "getaddrinfo"},
    "media.web.session": {"aiohttp"},
    "media.files.source_client": {"aiohttp"},
    "media.files.web_file": {"fsspec"},
    "stages.fetch.client": {"socket", "ssl", "aiohttp"},
    "stages.fetch.response_repair": {"aiohttp"},
    # Stores, and sources that the recipe names at other addresses than http and https.
    "media.files.location": {"fsspec", "pyarrow.fs", "url_to_fs"},
    "stages.ingest.sources.named_files": {"pyarrow.fs"},
    "stages.ingest.sources.remote_files": {"pyarrow.fs"},
    "store.storage.arrow": {"pyarrow.fs", "from_uri"},
    "store.storage.azure": {"pyarrow.fs"},
    "store.storage.google": {"pyarrow.fs"},
    "store.storage.local": {"pyarrow.fs"},
    "store.storage.object_address": {"boto3", "obstore"},
    "store.storage.object_store": {"pyarrow.fs", "obstore"},
    "store.storage.reader": {"pyarrow.fs", "from_uri"},
    "store.storage.open": {"urllib.request"},
    # Weights that the recipe names by a tag of the hub.
    "media.encoders.open_clip": {"open_clip"},
    "media.encoders.texts": {"open_clip"},
    "media.encoders.timm": {"timm"},
    "media.encoders.hub": {"huggingface_hub"},
    "media.encoders.open_clip_source": {"open_clip", "timm"},
    # The server that the user names for lineage events.
    "telemetry.event_sink": {"http.client", "urllib.request"},
    # Weights that the recipe names by an address and a checksum; only `curation weights` asks for them.
    "media.encoders.download": {"urllib.request", "urlopen"},
    # Whether the master of a Spark cluster answers.
    "engine.executors": {"socket", "create_connection"},
    # No connection: settings of preprocessing, the name of this machine, the writer of shards, files
    # in the cache of the hub.
    "inspect.weights": {"huggingface_hub"},
    "media.encoders.encoder": {"timm"},
    "media.encoders.torchscript": {"timm"},
    "engine.spark_settings": {"socket", "getaddrinfo"},
    "store.holder": {"socket"},
    "stages.fetch.sample_writer": {"img2dataset"},
}
"""Modules of the package, and what of the network they use."""


def uses(path: Path) -> set[str]:
    """Return what of the network a file uses."""
    return set(_uses(ast.parse(path.read_text(encoding="utf-8"))))


def _uses(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute) and node.attr in CALLS:
            yield node.attr
        for name in names:
            parts = name.split(".")
            starts = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
            yield from (starts & LIBRARIES) | ({parts[-1]} & CALLS)


def test_no_other_module_can_open_a_connection() -> None:
    importers = {
        name.removeprefix("curation."): uses(path) for name, path in modules().items() if uses(path)
    }
    further = {name: used - ALLOWED.get(name, set()) for name, used in importers.items()}
    assert not {name: used for name, used in further.items() if used}


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("import urllib.request", {"urllib.request"}),
        ("from urllib.parse import quote", set()),
        ("def f():\n    import requests.adapters", {"requests"}),
        ("from torch import hub", {"torch.hub"}),
        ("from pyarrow import fs", {"pyarrow.fs"}),
        ("from asyncio import open_connection", {"open_connection"}),
        ("import asyncio\nasyncio.open_connection('h', 1)", {"open_connection"}),
        ("import torch\ntorch.hub.load_state_dict_from_url('u')", {"load_state_dict_from_url"}),
    ],
)
def test_the_check_sees_every_form_of_import(tmp_path: Path, source: str, used: set[str]) -> None:
    (tmp_path / "m.py").write_text(source)
    assert uses(tmp_path / "m.py") == used
