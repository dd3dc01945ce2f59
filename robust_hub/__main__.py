"""`python -m robust_hub` is `robust-hub`."""

from __future__ import annotations

from robust_hub.cli.main import main

if __name__ == "__main__":
    main(prog_name="robust-hub")
