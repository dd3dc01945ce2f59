"""What a trained network gets right of images that it was not trained on, clean and under noise; nothing certified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from robust_hub.evidence.accuracy import Proportion, proportion
from robust_hub.images.data import ImageData
from robust_hub.images.held_out import SUFFIX
from robust_hub.images.noise import NoiseMixture
from robust_hub.memory import batch_in_memory
from robust_hub.models.logits import logits_of
from robust_hub.numbers import real_number, whole_number
from robust_hub.training.loop import Corrupt, Job, autocast, make_accelerator, network_input
from robust_hub.training.options import Options
from robust_hub.training.schedule import seed_of

SIGMA = 0.25  # of the noise, [0, 1]-pixel units


@dataclass(frozen=True)
class Judged:
    """Right answers of the base classifier on images that it was not trained on, one noisy copy of each.

    Attributes:
        split: The split that the images are, such as "train-held-out".
        images: How many they are.
        right: Right answers on clean images.
        right_under_noise: Right answers on noisy copies.
        sigma: Standard deviation of their noise, [0, 1]-pixel units.
    """

    split: str
    images: int
    right: int
    right_under_noise: int
    sigma: float = SIGMA

    @property
    def clean(self) -> Proportion:
        """Accuracy on clean images."""
        return proportion(self.right, self.images)

    @property
    def noisy(self) -> Proportion:
        """Accuracy under noise."""
        return proportion(self.right_under_noise, self.images)

    @property
    def words(self) -> str:
        """Say it in a sentence."""
        held = self.split.endswith(SUFFIX)
        which = "held out of training" if held else f"of the split {self.split}, not trained on"
        return (
            f"{self.images:,} images {which}: {self.clean.percent} % right, "
            f"{self.noisy.percent} % under noise of sigma {self.sigma:g} (one noisy copy an image, 95 % intervals; "
            "nothing is certified yet)"
        )

    def to_json(self) -> dict[str, Any]:
        """Give JSON values."""
        return vars(self).copy()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Judged | None:
        """Read what `to_json` gave, among other values; None where nothing was counted.

        Raises:
            KeyError: If a value is missing.
            TypeError: If the split is no text.
            ValueError: If a number is none that can be.
        """
        if "right" not in values:
            return None
        if not isinstance(values["split"], str):
            raise TypeError("a split that is no text")
        images = whole_number("images >= 1", values["images"])
        right, noisy = (
            whole_number(f"{name} in [0, images]", values[name], 0, images) for name in ("right", "right_under_noise")
        )
        return cls(values["split"], images, right, noisy, real_number("sigma > 0", values["sigma"], above=0))


def judge(job: Job, data: ImageData, options: Options) -> Judged:
    """Count right answers on images, clean and under noise that is the same for every call.

    Args:
        job: The network, trained.
        data: Images that it was not trained on.
        options: Those of its training.
    """
    noise = NoiseMixture((SIGMA,)).add
    right, noisy = (count_right(job, data, options, corrupt) for corrupt in (None, noise))
    return Judged(data.split, len(data), right, noisy)


def count_right(job: Job, data: ImageData, options: Options, corrupt: Corrupt | None) -> int:
    """Count the images that a network gets right under a corruption, its noise the same for every call.

    Under `accelerate launch` the processes share the images, and each is given the sum.
    """
    accelerator = make_accelerator()
    device, world = accelerator.device, accelerator.num_processes
    order = list(range(len(data)))
    batches = [order[i : i + options.batch_size] for i in range(0, len(order), options.batch_size)]
    under = replace(job, corrupt=corrupt)
    right = torch.zeros((), dtype=torch.int64, device=device)
    job.model.eval()
    for index in range(accelerator.process_index, len(batches), world):
        images, labels = data.batch(batches[index])
        generator = torch.Generator(device=device).manual_seed(seed_of(options.seed, "held-out", index))
        with batch_in_memory(len(images)), torch.no_grad(), autocast(device, options.mixed_precision):
            inputs = network_input(images.to(device), options, under, generator, augment=False)
            right += (logits_of(job.model(inputs)).argmax(1) == labels.to(device)).sum()
    return int(accelerator.reduce(right, "sum").item())
