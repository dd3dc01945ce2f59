"""What was chosen for the user, said in one line on stderr."""

from __future__ import annotations

import os
import sys


def say(text: str) -> None:
    """Say what was chosen, in one line on stderr; of several processes the first one alone says it.

    Args:
        text: A clause, such as "photos are 64x64: resized to the network's 32x32".
    """
    if os.environ.get("RANK", "0") == "0" and sys.stderr is not None:  # a program without a console has none
        print(text, file=sys.stderr, flush=True)
