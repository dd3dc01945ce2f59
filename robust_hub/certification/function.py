"""A certificate is of one fixed function of one image: what is tried of a network before its votes count, and after.

A network whose rows interact votes about a batch, and one that changes on the way votes about no function at all; both
were given certificates that were false. What is tried here finds the honest mistakes (batch norm with statistics of the
batch, scales of a whole batch, weights that someone trains meanwhile, a state). No trial finds a network that was built
to pass it.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robust_hub.models.logits import distance, rounding

ROWS = 8  # images of a batch that are tried
_COARSE = 2.0**-6  # what a batch of one shape may round otherwise in 16 bits, where one kernel computes it each time
_FIXED = 2312_09020  # key of the images whose logits are hashed
Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Witness:
    """Images whose logits were seen before the first vote, to be seen again after the last.

    Attributes:
        network: From noisy pixels, float32 (B, C, H, W), to logits, (B, K).
        images: The images, (B, C, H, W).
        logits: What the network gave for them, (B, K).
        dtype: The network's type.
    """

    network: Network
    images: Tensor
    logits: Tensor
    dtype: torch.dtype

    def check(self) -> None:
        """Refuse a network that gives other logits now.

        Raises:
            ValueError: If they moved by more than rounding.
        """
        moved = distance(self.network(self.images), self.logits)
        if moved > min(16 * rounding(self.dtype), _COARSE):
            raise ValueError(
                f"expected one fixed function, got other logits of the same {len(self.images)} images after the last "
                f"vote than before the first (by {moved:.2g} of the largest): the network was changed, trained or has "
                "a state; its votes certify nothing"
            )


def try_rows(network: Network, batch: Tensor, logits: Tensor, dtype: torch.dtype, *, alone: bool) -> None:
    """Refuse a network whose logits of an image depend on the other images of the batch.

    The batch's first images are run again at the end of a batch that is else of zeros, and the first one alone; and its
    last images at the front, since a network of limited capacity serves those that come first.

    Args:
        network: From noisy pixels, float32 (B, C, H, W), to logits, (B, K).
        batch: Noisy pixels, (B, C, H, W).
        logits: What the network gave for them, (B, K).
        dtype: The network's type, whose rounding is allowed: logits may differ by the square root of its epsilon, as
            a share of the largest, since other kernels may run for another size of batch; and by no more than 1/64 in
            a batch of the same size, so that bfloat16 does not let a mean of the batch pass.
        alone: Whether to run an image alone; a network that is compiled for one size of batch would be built anew.

    Raises:
        ValueError: If a row moved by more.
    """
    rows = max(1, min(ROWS, len(logits), len(batch) // 2))
    last = min(rows, (len(batch) - rows) // 2)  # zeros stay between the two: a mere exchange would show no mean
    moved = torch.zeros_like(batch)
    moved[:last] = batch[len(logits) - last : len(logits)]
    moved[len(batch) - rows :] = batch[:rows]
    got = network(moved)
    trials = [("among other images", got[len(batch) - rows :], logits[:rows])]
    if last:
        trials.append(("at the front of a batch", got[:last], logits[len(logits) - last :]))
    if alone:
        trials.append(("alone", network(batch[:1]), logits[:1]))
    for where, got, want in trials:
        difference = distance(got, want)
        if difference > math.sqrt(rounding(dtype)) or (difference > _COARSE and where != "alone"):
            raise ValueError(
                f"expected a function of one image, got other logits of an image {where} (by {difference:.2g} of the "
                "largest): the network's rows interact, as with batch norm that has no running statistics or dynamic "
                "quantisation, whose scales are those of a batch; a certificate of such a network would be false"
            )


def warn_of_logits(logits: Tensor) -> None:
    """Warn where logits, (B, K), leave the vote to the order of the classes: all equal, or infinite."""
    largest = logits.max(1).values
    if bool((logits == largest[:, None]).all(1).any()):
        warnings.warn(
            "the network gives all classes the same logit: such votes count for the first class, and certify it",
            stacklevel=2,
        )
    elif bool(largest.isinf().any()):
        warnings.warn(
            "the network's largest logits are infinite: where several are, the vote counts for the first of them",
            stacklevel=2,
        )


def logits_hash(network: Network, shape: Sequence[int], batch_size: int, device: torch.device) -> str:
    """Hash what a network computes of fixed images, as lower-case hex: two networks may have the same weights.

    Args:
        network: From noisy pixels, float32 (B, C, H, W), to logits, (B, K).
        shape: Shape of an image, (C, H, W).
        batch_size: Images of a batch, the last ones zeros.
        device: Where the network is.
    """
    rows = min(ROWS, batch_size)
    words = np.random.Philox(key=_FIXED).random_raw((rows * math.prod(shape) + 7) // 8)
    levels = words.astype("<u8", copy=False).view(np.uint8)[: rows * math.prod(shape)]
    batch = torch.zeros((batch_size, *shape))
    batch[:rows] = torch.from_numpy(levels.reshape(rows, *shape)).float() / 255
    logits = network(batch.to(device))[:rows].to("cpu", torch.float64)
    return hashlib.sha256(f"{tuple(logits.shape)}\n".encode() + logits.numpy().astype("<f8").tobytes()).hexdigest()
