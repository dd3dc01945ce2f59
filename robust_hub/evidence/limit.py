"""Where one run's certificates end because of its samples, and not because of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from robust_hub.evidence.record import Record
from robust_hub.guarantee.reach import largest_radius


@dataclass(frozen=True)
class Limit:
    """A radius from which on a run could certify nothing, whatever the network.

    Attributes:
        radius: The radius, l2 in [0, 1]-pixel units.
        words: Why, in a few words.
    """

    radius: float
    words: str

    @property
    def sentence(self) -> str:
        """The words, and the radius where they name none."""
        return f"{self.words} than about {self.radius:.3f}" if self.words.endswith("no more") else self.words


def want_of_samples(words: str) -> str:
    """Say that an accuracy of 0 may be the samples' and not the network's.

    Args:
        words: Which samples certify no more.
    """
    return f"A 0.0 may be for want of samples: {words}, whatever the network."


def limit_of(records: Sequence[Record], identity: Mapping[str, Any] = MappingProxyType({})) -> Limit | None:
    """Give the limit that its samples set to a run.

    Args:
        records: One record per image, of one sigma.
        identity: What its run.json says of it.

    Returns:
        The limit of a fixed number of samples, or of a grid with radii out of reach; None for others, such as a log
        that says no number of samples, and for no records.
    """
    if not records:
        return None
    if any(one.radii is not None for one in records):
        return _limit_of_grid(records, identity)
    if any(None in (one.n, one.sigma, one.alpha) or one.plan not in (None, "fixed") for one in records):
        return None
    asked = {(one.n or 0, one.sigma or 0.0, one.alpha or 0.0, one.tau or 0.0) for one in records}
    bound = str(identity.get("bound", "complement"))
    radius, n = max((largest_radius(n, sigma, alpha, bound, tau), n) for n, sigma, alpha, tau in asked)
    return Limit(radius, f"n = {n:,} certifies no more")


def _limit_of_grid(records: Sequence[Record], identity: Mapping[str, Any]) -> Limit | None:
    """Give the smallest radius that no image of a grid's run could reach."""
    beyond = set.intersection(*(set(one.out_of_reach or ()) for one in records))
    if not beyond:
        return None
    radius, n = min(beyond), identity.get("n")
    samples = f"n = {n:,}" if isinstance(n, int) else "its n"
    return Limit(radius, f"{samples} cannot certify {radius:g}")
