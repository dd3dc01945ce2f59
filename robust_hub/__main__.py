"""`python -m robust_hub` is `robust-hub`."""

from __future__ import annotations

import signal


def run() -> None:
    """Run the command line; until it is imported, Ctrl-C ends the process without a word, and not with a traceback."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # in the background it may be ignored
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from robust_hub.cli.main import main

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main(prog_name="robust-hub")


if __name__ == "__main__":
    run()
