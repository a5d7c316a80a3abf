"""Credentials and the endpoint of Azure, as the environment names them.

obstore reads these variables itself. pyarrow knows none of them, so its file system is opened here with
the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from pyarrow import fs

from curation.errors import StoreError

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

SCHEMES = ("abfs", "abfss")
ACCOUNT = "AZURE_STORAGE_ACCOUNT_NAME"
ENDPOINT = "AZURE_STORAGE_ENDPOINT"
"""Names another server, such as an emulator: `http://host:port/account`."""
KEYS = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY")
TOKENS = ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY")


def azure_reader(uri: str) -> Any | None:
    """Return the pyarrow file system of an account; None if the environment says nothing of it.

    Args:
        uri: as `abfs://container@account.dfs.core.windows.net/path`.

    Raises:
        StoreError: the endpoint of the environment is that of no account, or of another one.
    """
    account = urlsplit(uri).netloc.rpartition("@")[2].partition(".")[0]
    settings = _credentials(account) | _endpoint(account)
    return fs.AzureFileSystem(account, **settings) if settings else None


def azure_writer_settings() -> dict[str, Any]:
    """Return the settings of obstore that the environment does not tell it."""
    insecure = os.environ.get(ENDPOINT, "").startswith("http://")
    return {"client_options": {"allow_http": True}} if insecure else {}


def _credentials(account: str) -> dict[str, str]:
    """Return the key or token of the environment, unless it says that they are of another account."""
    if (os.environ.get(ACCOUNT) or account) != account:
        return {}
    for argument, names in (("account_key", KEYS), ("sas_token", TOKENS)):
        value = _first(names)
        if value:
            return {argument: value}
    return {}


def _first(names: Iterable[str]) -> str | None:
    return next(filter(None, map(os.environ.get, names)), None)


def _endpoint(account: str) -> dict[str, str]:
    endpoint = os.environ.get(ENDPOINT)
    if not endpoint:
        return {}
    parts = urlsplit(endpoint)
    if not parts.netloc or parts.path.strip("/") != account:
        raise StoreError(
            f"The variable {ENDPOINT} is {endpoint!r}, and the account of the address is {account!r}",
            fix=f"Write http://HOST:PORT/{account}",
        )
    return {
        **dict.fromkeys(("blob_storage_authority", "dfs_storage_authority"), parts.netloc),
        **dict.fromkeys(("blob_storage_scheme", "dfs_storage_scheme"), parts.scheme),
    }
