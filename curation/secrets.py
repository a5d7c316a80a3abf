"""What this process was given as a secret, so that no text that it shows or stores has it.

`mask_address` knows how addresses look. Libraries quote parts of them in other forms: a user name and
password as a header, a query without its address, a key alone. So a secret is noted where it comes in,
with a recipe, an address, a cluster file or the environment, and `conceal` finds it in any text.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from curation.masking import MASK, mask_address

EXECUTION_ONLY = True
"""Nothing here decides which rows there are."""

logger = logging.getLogger(__name__)

MIN_LENGTH = 5
"""Shorter values are masked within addresses alone: any text may have them by chance."""
_MIN_DIGITS = 8
"""Shorter numbers are counts and times of settings as often as passwords."""
_MIN_LINE = 16
"""Characters of a line of a secret that is looked for alone: programs print a line at a time."""
MAX_KNOWN = 4096
"""Forms of secrets that are kept. The first ones stay, and a warning says so."""
_ADDRESS = re.compile(r"(?i)\b[a-z][a-z0-9+.-]{0,30}:[/\\]{2,}[^\s\"'<>]+")
_QUOTED_ADDRESS = re.compile(r"(?i)([\"'])([a-z][a-z0-9+.-]{0,30}:[/\\]{2,}.{1,8000}?)\1")
NAMES = (
    r"(?i)secret|token(?!i)|passw|passphrase|[._-]pwd|credential|(access|account|private|api).?key"
    r"|connection.?string|(^|[._-])sas([._-]|$)|(storage|shared|encryption|fernet|signing).?key$"
    r"|(^|[._-])(pass|jwt)$"
)
"""What names of secret variables and settings have: a regular expression of Python and of Java."""
_NAME = re.compile(NAMES)
_PUBLIC = re.compile(r"(?i)(file|dir|path|ur[il]|profile|enabled|name|provider|authenticate)$")
"""How names end that speak of a secret and hold none."""
_WORDS = frozenset(("false", "default", "anonymous", "basic", "bearer"))
_WEB = re.compile(r"(?i)https?:|ftp:")
_OF_CONNECTION = re.compile(r"(?i)(?:^|;)\s*[\w ]*(?:key|signature|password|pwd)\s*=\s*([^;]+)")
"""The secrets in a connection string, as those of Azure and of databases are."""

_known: dict[str, None] = {}
_pattern: re.Pattern[str] | None = None


def note_secrets(text: str) -> None:
    """Note the secrets of all addresses in a text."""
    addresses = [match[0] for match in _ADDRESS.finditer(text)]
    addresses += [match[2] for match in _QUOTED_ADDRESS.finditer(text)]
    if "://" in text[:40] and "\n" not in text:
        addresses.append(text)
    _note(secret for address in addresses for secret in _secrets_of(address))


def note_settings(settings: Mapping[str, object]) -> None:
    """Note the values of settings whose names say that they are secret: of variables, of Spark."""
    named = [str(v) for n, v in settings.items() if is_secret(n)]
    _note(v for v in named if not (_is_number(v) or v.lower() in _WORDS or _is_path(v)))
    lines = (line.strip() for v in named if "\n" in v for line in v.splitlines())
    _note(line for line in lines if len(line) >= _MIN_LINE)
    _note(part for value in named for part in _OF_CONNECTION.findall(value))
    for value in map(str, settings.values()):
        if "://" in value:
            note_secrets(value)
        if value.lstrip().startswith(("{", "[")):
            _note_json(value)


def _note_json(text: str) -> None:
    """Note the secrets in a setting that is JSON, as the key of a service account is."""
    with suppress(ValueError, RecursionError):
        note_spec(json.loads(text))


def is_secret(name: str) -> bool:
    """Whether a variable or a setting is secret, by its name."""
    return _NAME.search(name) is not None and _PUBLIC.search(name) is None


def note_spec(spec: object) -> None:
    """Note the secrets in what YAML or JSON gave: in addresses, and under names of secrets."""
    if isinstance(spec, dict):
        note_settings({str(k): v for k, v in spec.items() if isinstance(v, str)})
        for value in spec.values():
            note_spec(value)
    elif isinstance(spec, list | tuple):
        for value in spec:
            note_spec(value)
    elif isinstance(spec, str):
        note_secrets(spec)


def note_environment() -> None:
    """Note the secrets in the variables of this process."""
    note_settings(os.environ)


def conceal(text: str) -> str:
    """Return a text with the secrets of addresses, and all secrets that were noted, as `***`."""
    if ":/" in text or "?" in text or ":\\" in text:
        text = mask_address(text)
    return _compiled().sub(MASK, text) if _known else text


def forget_secrets() -> None:
    """Forget what was noted; for tests."""
    _known.clear()
    _forget_pattern()


def _note(secrets: Iterable[str]) -> None:
    before = len(_known)
    for secret in secrets:
        for form in _forms(secret):
            if len(form) >= MIN_LENGTH and form != MASK and len(_known) < MAX_KNOWN:
                _known.setdefault(form)
    if before < len(_known) == MAX_KNOWN:
        logger.warning(
            "This process was given more secrets than it can hide everywhere (%d forms of them). "
            "Further ones are masked within addresses alone.",
            MAX_KNOWN,
        )
    if len(_known) != before:
        _forget_pattern()


def _forget_pattern() -> None:
    # Compiled with the next text: a recipe may give a thousand secrets one after the other.
    global _pattern  # noqa: PLW0603
    _pattern = None


def _compiled() -> re.Pattern[str]:
    global _pattern  # noqa: PLW0603
    if _pattern is None:
        longest_first = sorted(_known, key=len, reverse=True)
        _pattern = re.compile("|".join(map(re.escape, longest_first)))
    return _pattern


def _secrets_of(address: str) -> Iterator[str]:
    """Yield what `mask_address` replaces in an address."""
    for _ in range(4):
        yield from _with_parts(address, _between(address, mask_address(address).split(MASK)))
        decoded = unquote(address)
        if decoded == address:
            return
        address = decoded


def _between(text: str, literal: Sequence[str]) -> Iterator[str]:
    """Yield what stands in a text between parts of it."""
    start = len(literal[0])
    for part in literal[1:]:
        end = text.find(part, start) if part else len(text)
        if end < 0:
            return
        yield text[start:end]
        start = end + len(part)


def _is_number(value: str) -> bool:
    return value.isdigit() and len(value) < _MIN_DIGITS


def _is_path(value: str) -> bool:
    try:
        return value.startswith(("/", "~")) and Path(value).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


def _with_parts(address: str, secrets: Iterable[str]) -> Iterator[str]:
    for secret in secrets:
        yield secret
        user, colon, password = secret.partition(":")
        if colon and _WEB.match(address):
            yield password
            for pair in (secret, f"{unquote(user)}:{unquote(password)}"):
                yield base64.b64encode(pair.encode("utf-8", "replace")).decode()


def _forms(secret: str) -> set[str]:
    """Return a secret as libraries may write it."""
    forms = {secret, unquote(secret), unquote_plus(secret)}
    for plain in tuple(forms):
        escaped = plain.encode("unicode_escape").decode("ascii")
        forms |= {
            quote(plain, safe="", errors="replace"),
            quote(plain, errors="replace"),
            quote_plus(plain, errors="replace"),
            repr(plain)[1:-1],
            escaped,
            plain.replace("\\", "\\\\").replace('"', '\\"'),
            plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
        }
    return forms
