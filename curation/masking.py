"""Addresses without their secrets, as they may be shown, logged and stored.

Secrets are a user name or password before the host, and the values of query keys that are credentials:
signed queries of object stores, tokens, keys.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

EXECUTION_ONLY = True
"""Nothing here decides which rows there are."""

MASK = "***"
_PARTS_OF_CREDENTIALS = (
    *("signature", "token", "secret", "passw", "credential", "accesskey", "apikey", "session"),
    *("privatekey", "authkey", "authorization"),
)
"""What names of credentials contain, without marks and in lower case."""
_CREDENTIALS = frozenset(
    (
        *("sig", "key", "pwd", "pass", "auth", "jwt", "sas", "hmac", "policy", "keypairid"),
        *("googleaccessid", "hdnea", "hdnts", "hdntl", "accountkey"),
    )
)
_OF_STORES = ("xamz", "xgoog", "xoss", "xcos", "xobs")
"""How the keys of signed queries of object stores begin."""
_OF_AZURE = frozenset(
    (
        *("sv", "st", "se", "sr", "sp", "sip", "spr", "ss", "srt", "sdd"),
        *("skoid", "sktid", "skt", "ske", "sks", "skv", "saoid"),
    )
)
"""Keys of a shared access signature, which are part of it if `sig` stands beside them."""
_WITH_USER = re.compile(r"(?<![^\s\"'<>?#])[^\s\"'<>?#]+@")
"""What may have a user: text without spaces and quotes, from its beginning to its last `@`."""
_SCHEME = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}):[/\\]{2,}")
_SLASH = re.compile(r"[/\\]")
_HOST_AND_PATH = re.compile(r"[^/\\:]*(:\d*(?![/\\]{2}))?[/\\]")
_WEB_SCHEMES = ("http", "https", "ftp")
_PAIR = re.compile(r"(^|[?&;#])([\w%.\[\]+-]{1,100})=([^&#\s\"'<>]+)")
_SIGNED = re.compile(r"(?i)[?&;]sig=")
_MAX_DEPTH = 4
"""How many addresses within each other are looked into."""


def mask_address(text: str) -> str:
    """Return a text with the secrets of all addresses in it replaced by `***`.

    A password is masked; a user name too before a host of the web, where it is a token as often. Names
    of query keys stay. Addresses within the values of a query are masked in the same way.
    """
    return _masked(text, _MAX_DEPTH)


def has_secret(address: str) -> bool:
    """Whether an address has a secret that `mask_address` replaces."""
    return mask_address(address) != address


def _masked(text: str, depth: int) -> str:
    if "@" in text:
        text = _WITH_USER.sub(_mask_users, text)
    if "=" not in text:
        return text
    signed = _SIGNED.search(text) is not None
    return _PAIR.sub(lambda pair: _mask_pair(pair, signed, depth), text)


def _mask_users(addresses: re.Match[str]) -> str:
    """Return addresses that follow on each other without their users. Each character is read once."""
    text, parts, at = addresses[0], list[str](), 0
    while scheme := _SCHEME.search(text, at):
        start = scheme.end()
        slash = _SLASH.search(text, start)
        end = text.rfind("@", start, slash.start() if slash else len(text))
        host = _HOST_AND_PATH.match(text, start) if end < 0 else None
        if host:
            # The `@` stands in the path, where another address may be.
            end, user = host.end(), text[start : host.end()]
        else:
            # Some passwords have slashes.
            end = end if end >= 0 else len(text) - 1
            user = _mask_user(scheme[1].lower(), text[start:end])
        parts += [text[at:start], user]
        at = end
    return "".join([*parts, text[at:]])


def _mask_user(scheme: str, user: str) -> str:
    name, colon, password = user.partition(":")
    if scheme in _WEB_SCHEMES:
        return MASK if user else user
    return f"{name}:{MASK}" if colon and password else user


def _mask_pair(pair: re.Match[str], signed: bool, depth: int) -> str:
    mark, name, value = pair[1], pair[2], pair[3]
    if _is_credential(unquote(name), signed):
        return f"{mark}{name}={MASK}"
    if depth == 0:
        return pair[0]
    plain = _masked(value, depth - 1)
    decoded = unquote(plain)
    masked = decoded if decoded == plain else _masked(decoded, depth - 1)
    return f"{mark}{name}={plain if masked == decoded else quote(masked, safe='*')}"


def _is_credential(name: str, signed: bool) -> bool:
    key = re.sub(r"[^a-z0-9]", "", name.lower())
    if key in _CREDENTIALS or key.startswith(_OF_STORES) or key.endswith("apikey"):
        return True
    return (signed and key in _OF_AZURE) or any(part in key for part in _PARTS_OF_CREDENTIALS)
