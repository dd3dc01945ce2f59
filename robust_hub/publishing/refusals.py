"""What the Hub refuses, each in one sentence: a repository's name before anything is sent, and a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from robust_hub.errors import CheckpointError
from robust_hub.models.remote import WORLD, short
from robust_hub.parsing import shown

_HINTS = {
    401: "log in with `hf auth login`, with a token that may write",
    403: "the token may not write there",
    404: "check the repository's name and the token",
    412: "someone else has published in the meantime: look, then try again",
    429: "the Hub asks for patience: try again later",
}


def check_repo_id(repo_id: str) -> None:
    """Refuse what the Hub would, before anything is loaded and in a dry run, too.

    Raises:
        ValueError: If it is no "owner/name".
    """
    try:
        if repo_id.count("/") != 1:
            raise HFValidationError("it has no owner and name with one / between them")
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"expected a repository owner/name, got {shown(repr(repo_id))} ({short(error)})") from None


@contextmanager
def in_words(repo_id: str, done: str = "published") -> Iterator[None]:
    """Give the Hub's refusals in one sentence.

    Args:
        repo_id: What was asked for.
        done: What it could not be.

    Raises:
        ConnectionError: If the Hub refuses, or does not answer.
        ValueError: If the name is none of a repository.
    """
    try:
        yield
    except CheckpointError:
        raise
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        hint = _HINTS.get(status, "try again")
        raise ConnectionError(f"{repo_id} could not be {done} ({short(error)}): {hint}") from None
    except HFValidationError as error:
        raise ValueError(f"expected a repository owner/name, got {repo_id!r} ({short(error)})") from None
    except WORLD as error:
        raise ConnectionError(f"{repo_id} could not be {done} ({short(error)}): try again") from None
