"""Whether the metadata of a picture forbids training: the property Data Mining of IPTC and PLUS."""

from __future__ import annotations

from collections.abc import Collection

from curation.media.web.opt_outs.signals import OptOut

_PROHIBITED = "DMI-PROHIBITED"
_GENERATIVE = "DMI-PROHIBITED-GENAIMLTRAINING"
PLACE = "metadata of the picture: Data Mining"


def data_mining_opt_out(value: str | None, signals: Collection[str]) -> OptOut | None:
    """Return the opt-out of a picture, if it has one that counts.

    Args:
        value: of the property, as the column `data_mining` of `images` has it.
        signals: those that count. A value that prohibits generative training alone is a signal of its
            own.
    """
    if value is None or not value.startswith(_PROHIBITED):
        return None
    signal = "data_mining_genai" if value == _GENERATIVE else "data_mining"
    return OptOut(signal, PLACE, value) if signal in signals else None
