"""The signals by which a picture may be withheld, and what one of them said."""

from __future__ import annotations

import json
from typing import NamedTuple

from curation.masking import mask_address
from curation.media.web.failure_reasons import OPTED_OUT
from curation.media.web.fetch_error import FetchError

ROBOTS = "robots"
"""The signal of a rule `Disallow` in robots.txt, which `fetch.robots` turns off."""
ROBOTS_REASON = "robots_disallowed"
MAX_TEXT = 200
"""Characters of a text that are kept with a row."""


class OptOut(NamedTuple):
    """What withholds a picture.

    Attributes:
        signal: one of `OPT_OUT_SIGNALS`, or ROBOTS.
        place: where it was read: the address of a file, a header and its address, or a field.
        text: what stands there.
    """

    signal: str
    place: str
    text: str

    @property
    def reason(self) -> str:
        """Code that the table `images` gives for the row."""
        return ROBOTS_REASON if self.signal == ROBOTS else f"{OPTED_OUT}_{self.signal}"

    @property
    def described(self) -> str:
        """The text and its place in words, without secrets of addresses."""
        return f"{_clean(self.text)!r} in {_clean(self.place)}"

    def as_json(self) -> str:
        """Return it as a JSON object, without secrets of addresses."""
        return json.dumps({name: _clean(text) for name, text in self._asdict().items()})


class OptOutError(FetchError):
    """The image of a row is withheld.

    Args:
        opt_out: what withholds it.
    """

    def __init__(self, opt_out: OptOut) -> None:
        super().__init__(opt_out.reason)
        self.opt_out = opt_out


def is_opt_out_json(text: str) -> bool:
    """Whether a text is what `OptOut.as_json` gives."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(values, dict)
        and values.keys() == set(OptOut._fields)
        and all(isinstance(value, str) for value in values.values())
    )


def is_opt_out(reason: str) -> bool:
    """Whether a reason of the table `images` is an opt-out."""
    return reason == ROBOTS_REASON or reason.startswith(f"{OPTED_OUT}_")


def opt_out_of(error: FetchError) -> str | None:
    """Return the opt-out of an error as JSON, if it is one."""
    return error.opt_out.as_json() if isinstance(error, OptOutError) else None


def _clean(text: str) -> str:
    shown = mask_address(text[: 10 * MAX_TEXT])[:MAX_TEXT]
    return shown.encode("utf-8", "backslashreplace").decode()
