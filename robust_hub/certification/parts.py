"""Which images of a data set are certified where the caller names no split: none that the network was trained on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import nn

from robust_hub.images.content import SAMPLE, from_texts, hashes_of
from robust_hub.images.data import HASHED_IMAGES, ImageData
from robust_hub.images.held_out import SUFFIX, HeldOut
from robust_hub.images.indices import evenly
from robust_hub.images.parts import has_split
from robust_hub.models.modes import unwrapped
from robust_hub.models.sizes import check_size
from robust_hub.models.untouched import training_of
from robust_hub.notes import say
from robust_hub.provenance import Provenance

MOST_SEEN = 0.1  # of the images of a split: of more, it is no chance that a training had them, too
_NAMED = "or say --split train (in Python load_data(..., split='train')) to certify training images all the same"


def find_part(model: nn.Module, source: Any, read: Callable[[str], ImageData], **how: Any) -> ImageData:
    """Find the images to certify: the test split, else the validation split, else what the training held out.

    Args:
        model: The network; it carries how it was trained.
        source: A name, folder, Dataset or whatever `load_data` takes.
        read: Loads a split of it.
        how: Layout and columns, as of `robust_hub.images.parts.has_split`.

    Raises:
        ValueError: If there are no images that were kept apart from training, or the split is the one that the network
            was trained on, or they are of another size than it was trained at.
    """
    trained = _lineage(model)
    if has_split(source, "test", **how):
        return _unseen(read("test"), trained)
    if has_split(source, "val", **how):
        data = _unseen(read("val"), trained)
        say(f"{data.name} has no test split: its validation split is certified")
        return data
    if not has_split(source, "train", **how):  # a Dataset that is handed in, or what cannot be read
        return _unseen(read("test"), trained)
    data = read("train")
    check_size(model, data.image_shape)  # at another size no image would be known again
    return _held_out(data, trained)


def count_seen(model: nn.Module, data: ImageData, indices: Sequence[int]) -> int:
    """Count the images, of those at `indices`, that the network is known to have been trained on, and say so."""
    known = frozenset[str]().union(*(_sample(one) for one in _lineage(model)))
    seen = sum(one in known for one in hashes_of(data, indices)) if known else 0
    if seen:
        say(f"{data.name}: at least {seen:,} of these {len(indices):,} images are ones that the network was trained on")
    return seen


def _lineage(model: nn.Module) -> list[Provenance]:
    return list((training_of(unwrapped(model)) or Provenance()).lineage())


def _held_out(data: ImageData, trained: list[Provenance]) -> ImageData:
    """Give the images that the last training held out, and none of those before it saw."""
    hashes = hashes_of(data)
    if any(_saw_all(one, data, hashes) for one in trained):
        raise ValueError(
            f"expected images that the network was not trained on, got {data.name}, all of which it was trained on: "
            f"fine-tune with --val 0.1, name other data, {_NAMED}"
        )
    if not trained or not _has_part(trained[0]):
        raise ValueError(
            f"expected a test split in {data.name}, got a training split alone, and a network that says of no image "
            f"that it was held out: fine-tune with --val 0.1, move some images to a test split, {_NAMED}"
        )
    kept = HeldOut.from_json(trained[0].held_out or {})
    chosen = kept.hashes & frozenset(hashes)
    for one in trained:
        chosen = _without(chosen, one, trained[0], hashes)
    if not chosen:
        raise ValueError(
            f"expected images that were held out when the network was trained on {trained[0].data}, got none of them "
            f"in {data.name}: name the data that it was trained on, {_NAMED}"
        )
    found = data.subset([i for i, one in enumerate(hashes) if one in chosen])
    split = found.split
    said = (trained[0].held_out or {}).get("split")
    found.split = said if isinstance(said, str) and said.endswith(SUFFIX) else f"{split}{SUFFIX}"
    missing = kept.images - len(found)
    less = f"; {missing} of those that were held out are not there any more, or were trained on" if missing > 0 else ""
    none = f"{data.name} has no test split" if split == "train" else f"the network was trained on {data.name}"
    say(f"{none}: certified are {len(found):,} images that training held out{less}")
    return found


def _without(chosen: frozenset[str], one: Provenance, last: Provenance, hashes: Collection[str]) -> frozenset[str]:
    """Leave out of held-out images those that a training saw, be it the last or one before it on the same data."""
    if one is not last and _has_part(one):
        held = HeldOut.from_json(one.held_out or {}).hashes
        if not held.isdisjoint(hashes) or (one.trained_on is None and one.data == last.data):
            chosen &= held
    seen = chosen & _sample(one)
    if seen and (one.images or 0) > SAMPLE:  # a sample alone is known: it does not say which others were seen
        raise ValueError(
            f"expected held-out images that no training saw, got some that were trained on, on {one.data}: fine-tune "
            "a network that did not see these data, with --val 0.1"
        )
    return chosen - seen


def _has_part(one: Provenance) -> bool:
    return "hashes" in (one.held_out or {})


def _sample(one: Provenance) -> frozenset[str]:
    """Give what is known of the images of a training."""
    try:
        return from_texts(one.trained_on or ())
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"expected a record of images that were trained on, got a damaged one ({error}): restore config.json"
        ) from None


def _saw_all(one: Provenance, data: ImageData, hashes: Sequence[str]) -> bool:
    """Tell whether a training was on data and held nothing out: by their hash, by content, in old records by name."""
    if _same(one, data):
        return True
    if _has_part(one):
        return False
    return one.data == data.name if one.trained_on is None else _saw_many(one, hashes)


def _same(one: Provenance, data: ImageData) -> bool:
    """Tell whether a training was on just these images; their hash has to decode some, so their number comes first."""
    return one.data_hash is not None and one.images in (None, len(data)) and one.data_hash == data.data_hash


def _saw_many(one: Provenance, hashes: Sequence[str]) -> bool:
    """Tell whether a training saw more of some images than chance has in two parts of one data set."""
    sample = _sample(one)
    seen = sum(image in sample for image in hashes)
    times = max(1.0, (one.images or 0) / SAMPLE)  # as many as the sample stands for
    return seen >= min(3, len(hashes)) and seen * times > MOST_SEEN * len(hashes)


def _unseen(data: ImageData, trained: list[Provenance]) -> ImageData:
    """Refuse images that are those of a training; of those that it held a part out of, give that part."""
    whole = (trained[0].held_out or {}).get("whole") if trained else None
    if whole is not None and whole == data.data_hash:
        return _held_out(data, trained)
    known = any(one.trained_on for one in trained)
    hashes = hashes_of(data, evenly(len(data), HASHED_IMAGES)) if known else []
    for one in trained:
        same = _same(one, data)
        if not same and _saw_many(one, hashes) and _has_part(trained[0]):
            return _held_out(data, trained)
        if same or _saw_many(one, hashes):
            raise ValueError(
                f"expected images that the network was not trained on, got the {data.split} split of {data.name}, on "
                f"{'which' if same else 'images of which'} it was: name other data, or say --split {data.split} (in "
                f"Python pass load_data(..., split='{data.split}')) to certify them all the same"
            )
    return data
