"""JSON files with a checksum of what they say: a changed digit does not pass for another number."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from curation.masking import mask_address
from curation.store.digest import digest

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

CHECKSUM = "checksum"
"""The key of the checksum."""


def seal(spec: Mapping[str, Any]) -> bytes:
    """Return an object as JSON with a checksum. Secrets in addresses are masked."""
    # As it will be read: keys that are numbers become text.
    text = json.dumps(spec)
    as_read = json.loads(text, object_pairs_hook=_masked if "://" in text else None)
    return json.dumps(as_read | {CHECKSUM: digest(as_read)}, sort_keys=True).encode()


def _masked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {mask_address(key): _masked_value(value) for key, value in pairs}


def _masked_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_masked_value(item) for item in value]
    return mask_address(value) if isinstance(value, str) and "://" in value else value


def unseal(content: bytes) -> Any:
    """Return the object that `seal` wrote, without its checksum.

    Raises:
        ValueError: it is no JSON, or not what was written.
    """
    spec = load_json(content)
    if not isinstance(spec, dict) or CHECKSUM not in spec:
        raise ValueError("it has no checksum")
    rest = {key: value for key, value in spec.items() if key != CHECKSUM}
    if digest(rest) != spec[CHECKSUM]:
        raise ValueError("its checksum is wrong")
    return rest


def load_json(content: bytes | str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is none, or is nested too deeply.
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
