"""Whether a manifest of C2PA in a picture forbids training: the assertions of C2PA 1.x and of CAWG."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from curation.media.web.opt_outs.signals import OptOut

PLACE = "manifest of the picture: training-mining"
_ALLOWED = "allowed"
_SIGNALS = {
    "data_mining": "training_mining",
    "ai_training": "training_mining",
    "ai_generative_training": "training_mining_genai",
}
"""By the use that an assertion names. Inference is no training."""


class Permission(NamedTuple):
    """What a manifest says of one use of a picture.

    Attributes:
        use: its name, such as `cawg.ai_training`.
        value: `allowed`, `notAllowed` or `constrained`; or what else stands there.
        constraints: a text about the constraints; empty for none.
    """

    use: str
    value: str
    constraints: str = ""

    @property
    def text(self) -> str:
        """Use, value and constraints in one text."""
        constraints = f" ({self.constraints})" if self.constraints else ""
        return f"{self.use}={self.value}{constraints}"

    @property
    def forbids(self) -> bool:
        """Whether it forbids the use.

        Whoever cannot read the constraints treats `constrained` as `notAllowed` (CAWG, section 3.1).
        """
        return self.value.strip().lower() != _ALLOWED

    @property
    def signal(self) -> str | None:
        """The signal of the use; None for one that is no training."""
        return _SIGNALS.get(self.use.rpartition(".")[2])


def training_mining_opt_out(
    permissions: Iterable[Permission], signals: Collection[str]
) -> OptOut | None:
    """Return the opt-out of a picture, if it has one that counts.

    Args:
        permissions: of all manifests of the picture. One that forbids counts, whatever others allow.
        signals: those that count. The use for generative training alone is a signal of its own.
    """
    for permission in permissions:
        signal = permission.signal
        if signal in signals and permission.forbids:
            assert signal is not None
            return OptOut(signal, PLACE, permission.text)
    return None
