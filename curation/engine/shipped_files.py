"""Input files of a run on the machines of its workers.

A recipe names files by paths of the machine that runs it. Executors of a cluster have another working
directory, and may lie on other machines. So they get copies, from Spark's server of files, and what
reads an input file asks `local_path` where it is.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

_ODD = re.compile(r"[^\w.-]")
_names: Mapping[str, str] = {}


def local_path(path: str) -> str:
    """Return the path of an input file on this machine: of its copy, if it was shipped.

    Args:
        path: as the recipe has it.
    """
    if path not in _names:
        return path
    from pyspark import SparkFiles

    return str(Path(SparkFiles.getRootDirectory(), _names[path]).absolute())


def use_copies(names: Mapping[str, str]) -> None:
    """Let `local_path` find copies; runs on a worker.

    Args:
        names: of the copies, by path of the input file.
    """
    global _names  # noqa: PLW0603
    _names = names


class Shipment:
    """Copies of input files that Spark sends to each executor of a session, once.

    Args:
        context: of the session.
        paths: files or folders, as the recipe has them.

    Attributes:
        names: names of the copies, by path.
    """

    def __init__(self, context: Any, paths: Iterable[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="curation-shipped-")
        self.names: dict[str, str] = {}
        for number, path in enumerate(sorted(set(paths))):
            # Spark reads the names as addresses, in which `#` and spaces mean something else.
            self.names[path] = f"{number}-{_ODD.sub('_', Path(path).name)}"
            self._send(context, Path(path).absolute(), self.names[path])

    def _send(self, context: Any, path: Path, name: str) -> None:
        place = Path(self._folder.name, name)
        if path.is_dir():
            # Spark sends no folders, but unpacks archives.
            archive = place.with_name(f"{name}.tar")
            with tarfile.open(archive, "w", dereference=True) as tar:
                for file in sorted(path.iterdir()):
                    tar.add(file, file.name)
            context.addArchive(f"{archive.as_uri()}#{name}")
        else:
            # Two files may have the same name, and Spark sends one of a name. It follows links by name.
            try:
                place.hardlink_to(path.resolve())
            except OSError:
                # They lie on two disks, or the disk has no such links.
                shutil.copyfile(path, place)
            context.addFile(place.as_uri())

    def close(self) -> None:
        """Remove what was made to be sent."""
        self._folder.cleanup()
