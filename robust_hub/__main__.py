"""`python -m robust_hub` is `robust-hub`."""

from __future__ import annotations

from robust_hub.start import hear


def run() -> None:
    """Run the command line; until it is imported, Ctrl-C ends the process without a word, and not with a traceback."""
    from robust_hub.cli.main import main

    hear()
    main(prog_name="robust-hub")


if __name__ == "__main__":
    run()
