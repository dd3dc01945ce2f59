"""Which images of a data set are certified where the caller names no split: none that the network was trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from robust_hub.images.data import ImageData
from robust_hub.images.held_out import HeldOut
from robust_hub.images.parts import has_split
from robust_hub.models.modes import unwrapped
from robust_hub.models.sizes import check_size
from robust_hub.notes import say
from robust_hub.provenance import Provenance, provenance_of

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
    trained = list((provenance_of(unwrapped(model)) or Provenance()).lineage())
    if has_split(source, "test", **how):
        return _unseen(read("test"), trained)
    if has_split(source, "val", **how):
        data = _unseen(read("val"), trained)
        say(f"{data.name} has no test split: its validation split is certified")
        return data
    if not has_split(source, "train", **how):  # a Dataset that is handed in, or what cannot be read
        return read("test")
    data = read("train")
    check_size(model, data.image_shape)  # at another size no image would be known again
    return _held_out(data, trained)


def _held_out(data: ImageData, trained: list[Provenance]) -> ImageData:
    """Give the images that the last training held out, and none of those before it saw."""
    if any(_saw_all(one, data) for one in trained):
        raise ValueError(
            f"expected images that the network was not trained on, got {data.name}, all of which it was trained on: "
            f"fine-tune with --val 0.1, name other data, {_NAMED}"
        )
    record = trained[0].held_out if trained else None
    if not record or "hashes" not in record:
        raise ValueError(
            f"expected a test split in {data.name}, got a training split alone, and a network that says of no image "
            f"that it was held out: fine-tune with --val 0.1, move some images to a test split, {_NAMED}"
        )
    kept = HeldOut.from_json(record)
    for one in trained[1:]:  # earlier trainings on the same data, which may have held out others
        if one.held_out and "hashes" in one.held_out and one.data == trained[0].data:
            kept = HeldOut(kept.fraction, kept.images, kept.hashes & HeldOut.from_json(one.held_out).hashes)
    chosen = kept.among(data)
    if not chosen:
        raise ValueError(
            f"expected images that were held out when the network was trained on {trained[0].data}, got none of them "
            f"in {data.name}: name the data that it was trained on, {_NAMED}"
        )
    found = data.subset(chosen)
    found.split = str(record.get("split", found.split))
    missing = kept.images - len(found)
    less = f"; {missing} of those that were held out are not there any more" if missing > 0 else ""
    say(f"{data.name} has no test split: certified are {len(found):,} images that training held out{less}")
    return found


def _saw_all(one: Provenance, data: ImageData) -> bool:
    """Tell whether a training was on all images of data: by their hash, and by name if it held none out."""
    return one.data_hash == data.data_hash or (one.data == data.name and "hashes" not in (one.held_out or {}))


def _unseen(data: ImageData, trained: list[Provenance]) -> ImageData:
    """Refuse images that are those of a training; of those that it held a part out of, give that part."""
    if trained and (trained[0].held_out or {}).get("whole") == data.data_hash:
        return _held_out(data, trained)
    for one in trained:
        if one.data_hash is not None and one.data_hash == data.data_hash:
            raise ValueError(
                f"expected images that the network was not trained on, got the {data.split} split of {data.name}, on "
                f"which it was: name other data, or say --split {data.split} to certify them all the same"
            )
    return data
