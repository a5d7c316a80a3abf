"""Why an image cannot be fetched."""

from __future__ import annotations

from curation.errors import CurationError

MAX_DETAIL = 200
"""Characters of the text of an exception that are kept with a row."""


class FetchError(Exception):
    """The image of a row cannot be fetched.

    Args:
        reason: code that the table `images` gives for the row, as `http_404`.
        transient: a later attempt may succeed.
        unanswered: the host sent no response.
        whole_host: the failure holds for every URL of the host.
        wait_s: seconds for which the host asks not to be requested (0 if it names no time); None if
            it does not ask.
        detail: kind and text of an exception that nothing foresaw.
    """

    def __init__(
        self,
        reason: str,
        *,
        transient: bool = False,
        unanswered: bool = False,
        whole_host: bool = False,
        wait_s: float | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason, self.transient, self.unanswered = reason, transient, unanswered
        self.whole_host, self.wait_s, self.detail = whole_host, wait_s, detail


def unforeseen(error: Exception) -> FetchError:
    """Return the error of a row for an exception that nothing foresaw.

    Its reason is `error_` and the class of the exception, so that each kind is counted.

    Raises:
        CurationError, MemoryError: the row is not the cause of the exception, which ends the task.
    """
    if isinstance(error, CurationError | MemoryError):
        raise error
    kind = type(error).__name__
    text = f"{kind}: {error}"[:MAX_DETAIL].encode("utf-8", "backslashreplace").decode()
    return FetchError(f"error_{kind}", detail=text)
