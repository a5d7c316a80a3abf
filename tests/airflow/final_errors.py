"""Which errors of spark-submit are tried again; prints them."""

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from curation.airflow.operator import _raise_if_final


def is_final(text: str) -> bool:
    """Whether an error with a text is not tried again."""
    try:
        _raise_if_final(AirflowException(text))
    except AirflowFailException:
        return True
    return False


texts = [f"Cannot execute: spark-submit x. Error code is: {status}." for status in (1, 2, 3, 4, -9)]
of_driver = "Cannot execute: x. Error code is: 1. Kubernetes spark exit code is: "
texts += [f"{of_driver}{status}" for status in ("None", 1, 4, 137)]
print("RESULT", *(int(is_final(text)) for text in texts))
