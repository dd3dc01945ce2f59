"""The one error of our own; every other is a ValueError or a TypeError."""

from __future__ import annotations


class CheckpointError(RuntimeError):
    """Weights that are missing, damaged or not the ones they are said to be."""
