"""Google Cloud Storage, as the environment names it.

pyarrow and obstore both read `GOOGLE_APPLICATION_CREDENTIALS`, or else what `gcloud auth
application-default login` left, or else the account of the machine.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from curation.errors import Detail, StoreError

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

SCHEMES = ("gs", "gcs")
EMULATORS = ("CLOUD_STORAGE_EMULATOR_ENDPOINT", "STORAGE_EMULATOR_HOST")
"""Names the server of an emulator, which asks for no credentials: `http://host:port`."""
RETRY_S = 60
"""Seconds for which pyarrow asks a server that does not answer. Its default is 15 minutes."""


def google_address(uri: str) -> str:
    """Return an address with the options by which pyarrow asks the server that the environment names.

    Options that the address has already stay.

    Args:
        uri: as `gs://bucket/path`.

    Raises:
        StoreError: what the environment names is not the address of a server.
    """
    parts = urlsplit(uri)
    given, bucket = parse_qs(parts.query, keep_blank_values=True), parts.netloc
    options, server = {"retry_limit_seconds": str(RETRY_S)}, _emulator()
    if server is not None and "endpoint_override" not in given:
        options |= {"scheme": server[0], "endpoint_override": server[1]}
        bucket = f"anonymous@{bucket.rpartition('@')[2]}"
    added = urlencode({name: value for name, value in options.items() if name not in given})
    query = "&".join(filter(None, (parts.query, added)))
    return parts._replace(netloc=bucket, query=query).geturl()


def google_writer_settings() -> dict[str, Any]:
    """Return the settings of obstore that mean the same as the environment does to pyarrow.

    Raises:
        StoreError: what the environment names is not the address of a server.
    """
    server = _emulator()
    if server is None:
        return {}
    scheme, address = server
    return {
        "base_url": f"{scheme}://{address}",
        # With `skip_signature` it would ask the machine for the token of an account all the same.
        "bearer_token": "emulator",
        "client_options": {"allow_http": scheme == "http"},
    }


def _emulator() -> tuple[str, str] | None:
    """Return the scheme, and the host with its port, of the emulator that the environment names."""
    name = next(filter(os.environ.get, EMULATORS), None)
    if name is None:
        return None
    endpoint = os.environ[name]
    parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
        message = "it is not the address of a server"
        raise StoreError(
            Detail(message, f"the variable {name}", endpoint, fix="Write http://HOST:PORT")
        )
    return parts.scheme, parts.netloc
