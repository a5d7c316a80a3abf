"""The folders of reports: one for each version of the dataset, and more where runs share a version."""

from __future__ import annotations

from curation.store.sealed_json import seal
from curation.store.store import Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

FOLDER = "reports"
OWNER = "made-from.json"
"""The file that says of what the report beside it is."""


def claim_report(store: Store, version: str, key: str) -> str:
    """Return what follows the version in the name of the folder in which to write a report.

    Runs of several recipes, and of one recipe on different sources, may lead to the same dataset. The
    first of them has the folder with the name of the version, and each other one a folder beside it.

    Args:
        store: where the report goes.
        version: of the dataset.
        key: stands for everything that the report shows.
    """
    # On object stores, whoever creates the same content again succeeds: it has the same key.
    if store.storage.create(f"{FOLDER}/{version}/{OWNER}", seal({"key": key})):
        return ""
    return report_suffix(store, version, key)


def report_suffix(store: Store, version: str, key: str) -> str:
    """Return the same as `claim_report` for a report that was written."""
    spec = store.read_json(f"{FOLDER}/{version}/{OWNER}")
    return "" if isinstance(spec, dict) and spec.get("key") == key else f"-{key}"


def version_of_report(folder: str) -> str:
    """Return the version of the dataset to which a folder of reports belongs, by its name."""
    return folder.partition("-")[0]
