"""What no text file should have is found, and mended where that is safe."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.check_text import MOST_BYTES, mended, problems


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", b""),
        (b"a\n", b"a\n"),
        (b"a", b"a\n"),
        (b"a \t\nb\n", b"a\nb\n"),
        (b"a\r\nb\r\n", b"a\nb\n"),
        (b"a\n\n\n", b"a\n"),
        (b"a\n\nb\n", b"a\n\nb\n"),
    ],
)
def test_line_ends_are_mended(content: bytes, expected: bytes) -> None:
    assert mended(content) == expected
    assert mended(expected) == expected


def test_a_file_is_mended_only_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a ")
    assert len(list(problems(path, mend=False))) == 1
    assert path.read_bytes() == b"a "
    assert len(list(problems(path, mend=True))) == 1
    assert path.read_bytes() == b"a\n"
    assert not list(problems(path, mend=True))


def test_binary_files_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"\0 \r\n")
    assert not list(problems(path, mend=True))


def test_conflicts_and_large_files_are_named(tmp_path: Path) -> None:
    conflict, large = tmp_path / "a.py", tmp_path / "b.txt"
    conflict.write_text("<" * 7 + " HEAD\nx = 1\n")
    large.write_bytes(b"a" * MOST_BYTES + b"\n")
    assert list(problems(conflict, mend=False)) == ["markers of a merge conflict"]
    assert "valid are up to" in next(problems(large, mend=False))


def test_the_repository_has_none(root: Path) -> None:
    from scripts.check_text import tracked_files

    bad = [
        f"{p}: {problem}" for p in tracked_files() if p.is_file() for problem in problems(p, False)
    ]
    assert not bad
