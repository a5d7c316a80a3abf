"""Finds what no text file of the repository should have, and mends it where that is safe.

    python scripts/check_text.py [--mend] [FILE ...]     # without files: every tracked file

Spaces at the end of lines, line ends of Windows, and a missing or a repeated last line end are mended;
markers of a merge conflict, and files of more than 1 MB outside the package's weights, are only named.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST_BYTES = 1_000_000
LARGE = (".safetensors",)
"""Endings of files that may be large."""
CONFLICT = re.compile(rb"^(<{7} |={7}$|>{7} )", re.MULTILINE)


def tracked_files() -> list[Path]:
    """Return the files that git tracks, by their absolute paths."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def mended(content: bytes) -> bytes:
    """Return the content of a text file as it should be."""
    lines = [line.rstrip() for line in content.replace(b"\r\n", b"\n").split(b"\n")]
    text = b"\n".join(lines).rstrip(b"\n")
    return text + b"\n" if text else b""


def problems(path: Path, mend: bool) -> Iterator[str]:
    """Yield what is wrong with a file; with `mend`, write it as it should be first."""
    content = path.read_bytes()
    if len(content) > MOST_BYTES and path.suffix not in LARGE:
        yield f"{len(content):,} bytes; valid are up to {MOST_BYTES:,}"
    if b"\0" in content:
        return
    if CONFLICT.search(content):
        yield "markers of a merge conflict"
    if mended(content) != content:
        if mend:
            path.write_bytes(mended(content))
        yield "spaces or line ends at the end" + (", mended now" if mend else "; run with --mend")


def main() -> int:
    """Check files; return 1 where one has a problem."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--mend", action="store_true")
    options = parser.parse_args()
    lines = [
        f"{path}: {problem}"
        for path in options.files or tracked_files()
        if path.is_file() and not path.is_symlink()
        for problem in problems(path, options.mend)
    ]
    print("\n".join(lines), end="\n" if lines else "")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
