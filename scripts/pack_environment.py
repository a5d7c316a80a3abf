"""Packs Python, the libraries and this package into an archive that Spark ships to executors.

    python scripts/pack_environment.py data/environment.tar.gz
    spark-submit --archives data/environment.tar.gz#environment \\
        --conf spark.pyspark.python=./environment/bin/python … jobs/run.py …

The archive has the interpreter too, so executors need none. They need the same kind of machine and of
Linux. Left out are Spark's Java libraries, which the cluster has, and what `--without` names.
"""

from __future__ import annotations

import argparse
import gzip
import io
import sys
import sysconfig
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
LIBRARY = f"lib/{VERSION}"
SITE = f"{LIBRARY}/site-packages"
LEFT_OUT = frozenset(("__pycache__", "test", "tests", "idlelib", "tkinter", "site-packages"))
"""Folders of the standard library that are not packed; nor is its `config-…`, for compilers."""
ENDINGS = (".tar.gz", ".tgz")
"""Of archives that Spark unpacks with their permissions. Programs of a plain .tar cannot be started."""
PYTHON = f"""#!/bin/sh
# The libraries of this interpreter lie where the archive was unpacked.
here=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
LD_LIBRARY_PATH="$here/lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
export LD_LIBRARY_PATH
exec "$here/bin/{VERSION}" "$@"
"""


def members(without: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Yield the files and folders to pack, each with its name in the archive.

    Args:
        without: names in site-packages that are left out.
    """
    base = Path(sys.base_prefix)
    yield (base / "bin" / VERSION).resolve(), f"bin/{VERSION}"
    for library in sorted((base / "lib").glob("libpython*.so*")):
        yield library.resolve(), f"lib/{library.name}"
    for path in sorted(Path(sysconfig.get_path("stdlib")).iterdir()):
        if path.name not in LEFT_OUT and not path.name.startswith("config-"):
            yield path, f"{LIBRARY}/{path.name}"
    for path in sorted(Path(sysconfig.get_path("purelib")).iterdir()):
        if path.name not in without and not _is_editable(path.name):
            yield path, f"{SITE}/{path.name}"
    # An editable installation has only a link to the checkout.
    for folder, name in (("curation", ""), ("schemas", "/schemas"), ("conf", "/conf")):
        yield ROOT / folder, f"{SITE}/curation{name}"


def _is_editable(name: str) -> bool:
    return name == "curation" or ("editable" in name and "curation" in name)


def _only_kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = member.name
    left_out = "__pycache__" in name or f"{SITE}/pyspark/jars/" in name
    return None if left_out else member


def pack(output: Path, without: Collection[str] = ()) -> int:
    """Write the archive; return its bytes.

    Args:
        output: path of the archive.
        without: names in site-packages that are left out.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with (
        gzip.open(output, "wb", compresslevel=1) as stream,
        tarfile.open(fileobj=stream, mode="w") as archive,
    ):
        for path, name in members(without):
            archive.add(path, name, filter=_only_kept)
        for name in ("bin/python", "bin/python3"):
            wrapper = tarfile.TarInfo(name)
            wrapper.size, wrapper.mode = len(PYTHON.encode()), 0o755
            archive.addfile(wrapper, io.BytesIO(PYTHON.encode()))
    return output.stat().st_size


def main() -> None:
    """Pack the environment of the interpreter that runs this."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="path of the archive: .tar.gz or .tgz")
    parser.add_argument(
        "--without",
        nargs="*",
        default=[],
        metavar="NAME",
        help="names in site-packages that executors do not need, such as mypy",
    )
    options = parser.parse_args()
    if not options.output.name.endswith(ENDINGS):
        raise SystemExit(f"{options.output}: the name must end with {' or '.join(ENDINGS)}.")
    size = pack(options.output.absolute(), options.without)
    print(f"{options.output}: {size / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main()
