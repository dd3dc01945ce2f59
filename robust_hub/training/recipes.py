"""How to fine-tune where the caller does not say: for how long, at which rates, chosen by the size of the data.

A pretrained network loses robustness with every step on clean images, while its new classifier, which is random, needs
many: the classifier's rate is therefore 300 times that of the features, and small data take as many epochs as make
enough steps: of 320 images, more than twice as many only cost robustness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from robust_hub.numbers import real_number, whole_number

STEPS = 100  # of a fine-tuning; large data make more in one epoch
RATE, HEAD_SCALE, HEAD_RATE = 0.001, 300.0, 0.3
RATES = (0.0003, 0.001, 0.003)
ENOUGH = 1000  # images from which on a tenth of them can tell rates apart
MANY = 20_000  # images from which on trying several rates takes too long
PLAIN_RATE, PLAIN_BATCH, SMALL_BATCH = 0.01, 128, 32
JUDGE_SIGMA = 0.25  # of the noise under which rates are judged, [0, 1]-pixel units


@dataclass(frozen=True)
class Recipe:
    """What a fine-tuning takes where its caller says nothing else.

    Attributes:
        epochs: Passes over the data.
        learning_rate: The peak learning rates to try.
        head_scale: Factor on the new classifier's learning rate.
        batch_size: Images a step.
        judge_sigma: Sigma of the noise under which several rates are judged, [0, 1]-pixel units; None without choice.
        words: What was chosen, in words; empty if nothing was.
    """

    epochs: int
    learning_rate: float | tuple[float, ...]
    head_scale: float
    batch_size: int
    judge_sigma: float | None = None
    words: str = ""


def suited_recipe(
    images: int,
    *,
    head_only: bool = False,
    optimizer: str = "sgd",
    epochs: int | None = None,
    head_scale: float | None = None,
    batch_size: int | None = None,
    holdout: float = 0.1,
) -> Recipe:
    """Choose how to fine-tune on so many images; what the caller says stays.

    Args:
        images: Number of training images.
        head_only: Whether the classifier alone is trained.
        optimizer: A name of timm's optimizers. Rates are chosen for SGD.
        epochs: Passes over the data; None chooses them.
        head_scale: Factor on the new classifier's learning rate, likewise.
        batch_size: Images a step, likewise.
        holdout: Share of the images that judges several rates.

    Example:
        >>> suited_recipe(50_000).epochs, suited_recipe(3_000).learning_rate, suited_recipe(300).batch_size
        (1, (0.0003, 0.001, 0.003), 32)
    """
    usual = SMALL_BATCH if images < ENOUGH else PLAIN_BATCH
    size = usual if batch_size is None else whole_number("batch_size >= 1", batch_size, 1)
    steps = max(1, images // size)
    passes = math.ceil(STEPS / steps) if epochs is None else whole_number("epochs >= 1", epochs, 1)
    rates: tuple[float, ...] = (HEAD_RATE,) if head_only else RATES if ENOUGH <= images < MANY else (RATE,)
    scale = 1.0 if head_only else HEAD_SCALE
    if optimizer.lower() != "sgd":
        rates, scale = (PLAIN_RATE,), 1.0
    several = len(rates) > 1
    said = ["learning rate " + " or ".join(f"{rate:g}" for rate in rates)]
    if batch_size is None:
        said.insert(0, f"batches of {min(size, images)}")
    if epochs is None:
        said.insert(0, f"{passes} epoch{'' if passes == 1 else 's'}")
    if head_scale is None and scale != 1:
        said.append(f"{scale:g} times that for the new classifier")
    words = f"chosen for {images:,} training image{'' if images == 1 else 's'}: {', '.join(said)}"
    if several:
        words += f"; kept is the rate that is right most often under noise of sigma {JUDGE_SIGMA:g} "
        words += f"on {100 * holdout:g} % of them"
    words += " (--epochs, --batch-size and --learning-rate say otherwise)"
    scale = scale if head_scale is None else real_number("a finite head_scale > 0", head_scale, above=0)
    return Recipe(passes, rates if several else rates[0], scale, size, JUDGE_SIGMA if several else None, words)
