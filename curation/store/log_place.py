"""Where the log file of a run is: in the store if that is a folder, otherwise on the run's machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from curation.store.store import Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

FOLDER, SUFFIX = "logs", ".log"
KEPT_OF_OTHER_STORES = 100
"""Log files that the state folder of a machine holds; the oldest go first."""


def log_path(store: Store, run: str) -> Path:
    """Return the path of the log file of a run that this machine works on.

    Args:
        store: where the run works.
        run: its name.
    """
    name = f"{run}{SUFFIX}"
    return (
        Path(store.address(f"{FOLDER}/{name}")) if store.storage.is_local else state_folder() / name
    )


def state_folder() -> Path:
    """Return the folder of logs of runs whose stores are on other machines.

    It is `curation/logs` in XDG_STATE_HOME (https://specifications.freedesktop.org/basedir-spec), by
    default in `~/.local/state`; in the folder of temporary files if there is no home.
    """
    named = os.environ.get("XDG_STATE_HOME", "")
    with suppress(RuntimeError):
        base = Path(named) if named.startswith("/") else Path.home() / ".local" / "state"
        return base / "curation" / FOLDER
    return Path(tempfile.gettempdir()) / f"curation-{os.getuid()}" / FOLDER


def run_of(path: str) -> str:
    """Return the run whose log file has a path."""
    return PurePosixPath(path).name.partition(SUFFIX)[0]


def tidy_state_folder() -> None:
    """Remove all but the latest log files of the state folder.

    Raises:
        OSError: one cannot be removed.
    """
    files = sorted(state_folder().glob(f"*{SUFFIX}*"), key=lambda path: path.name)
    for path in files[:-KEPT_OF_OTHER_STORES]:
        path.unlink(missing_ok=True)


def remove_from_state_folder(runs: Iterable[str]) -> None:
    """Remove the log files that the state folder has of some runs."""
    removed = frozenset(runs)
    for path in state_folder().glob(f"*{SUFFIX}*"):
        if run_of(path.name) in removed:
            path.unlink(missing_ok=True)
