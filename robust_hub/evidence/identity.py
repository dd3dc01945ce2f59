"""What run.json says of a run: the kind of each value that is computed with, what two runs must share, its noise."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from robust_hub.evidence.consistency import PLANS
from robust_hub.guarantee.bounds import BOUNDS
from robust_hub.parsing import is_number, is_whole, shown

# What runs of one network on the same images may differ in; whatever else run.json says must be equal, the noise, the
# images and all that moves a logit included.
MAY_DIFFER = ("sigma", "seed", "n", "n0", "batch_size")
_OF_ALL_DATA = ("data_fingerprint", "labels_hash")  # an older run says the one, a newer the other
_NOISES = {
    "float32": "drawn in float32, for networks that do not exploit float rounding",
    "lattice255": "drawn on the lattice of 8-bit pixels, so that no rounding tells a network anything",
}
_SEEDS = {
    False: "the operating system drew its seed after network and images were fixed",
    True: "its seed was given, so it counts for a network that was not made for this seed",
    None: "not recorded whether its seed was drawn after the network was fixed",
}
_UNSAID = {"noise": "float32", "plan": "fixed"}  # what a run was before run.json said so


def check_identity(identity: Mapping[str, Any], path: Path) -> None:
    """Refuse values of run.json that are not of their kind; what is absent is not asked for.

    Args:
        identity: What was certified and how.
        path: Where it was read, for errors.

    Raises:
        ValueError: At the first value that is none.
    """
    for name, (is_one, words) in _KINDS.items():
        if name in identity and not is_one(identity[name]):
            raise ValueError(
                f"expected {name} to be {words} in {shown(path)}, got {shown(identity[name], 40)}; restore the file"
            )


def differing(identities: list[Mapping[str, Any]]) -> list[str]:
    """Give the names in which runs differ that may differ in sigma and samples alone.

    Args:
        identities: What was certified and how, a run each.

    Returns:
        The names, sorted; a name that no run says differs in none.
    """
    said = [{**_UNSAID, **identity} for identity in identities]
    names = sorted({name for one in said for name in one} - set(MAY_DIFFER) - _told_otherwise(said))
    return [name for name in names if any(one.get(name) != said[0].get(name) for one in said)]


def _told_otherwise(said: list[dict[str, Any]]) -> set[str]:
    """Give the hashes of all data that not every run has, where each has the hash of the images that it certified."""
    if not all("images_hash" in one for one in said):
        return set()
    return {name for name in _OF_ALL_DATA if not all(name in one for one in said)}


def noise_words(noise: str, reproduction: bool | None) -> str:
    """Say what noise records are of and what that asks of the network.

    Args:
        noise: "lattice255" or "float32", see `robust_hub.evidence.records.Run.noise`.
        reproduction: Whether the caller gave the seed; None if that is not known.

    Returns:
        A clause, such as "drawn in float32, for networks that do not exploit float rounding; ...".
    """
    return f"{_NOISES.get(noise, f'of the kind {shown(noise, 40)}')}; {_SEEDS[reproduction]}"


def _is_grid(value: Any) -> bool:
    if not (isinstance(value, list) and value and all(map(is_number, value)) and value[0] >= 0):
        return False
    return all(low < high for low, high in itertools.pairwise(value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_outputs(value: Any) -> bool:
    return isinstance(value, list) and all(one is None or is_whole(one, 0) for one in value)


_TEXT = (_is_text, "a text")
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "sigma": (lambda value: is_number(value) and value > 0, "a finite number > 0"),
    "alpha": (lambda value: is_number(value) and 0 < value < 1, "a number in (0, 1)"),
    "n": (partial(is_whole, least=1), "a whole number, at least 1"),
    "n0": (partial(is_whole, least=0), "a whole number, at least 0"),
    "every": (partial(is_whole, least=1), "a whole number, at least 1"),
    "images": (partial(is_whole, least=0), "a whole number, at least 0"),
    "trained_on": (partial(is_whole, least=0), "a whole number, at least 0"),
    "seed": (lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number"),
    "plan": (lambda value: isinstance(value, str) and value in PLANS, f"one of {', '.join(PLANS)}"),
    "bound": (lambda value: isinstance(value, str) and value in BOUNDS, f"one of {', '.join(BOUNDS)}"),
    "radii": (_is_grid, "increasing finite numbers >= 0"),
    "classes": (_are_texts, "a list of names"),
    "outputs": (_are_outputs, "a list of whole numbers, at least 0"),
    **dict.fromkeys(("data", "dtype", "split", "noise", "weights", "model", "matched"), _TEXT),
}
