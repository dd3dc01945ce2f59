"""Of which network, image and machine a certificate speaks, in plain words and numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """What a certificate was made of, so that a stranger can tell whether it is about the network and image at hand.

    A certificate is about one function of one image. The function is weights, layers (whose logits on fixed inputs
    tell them), mean and std, type, device and form; the image is its pixels.

    Attributes:
        model: The network's name.
        weights: Sha256 of its weights, `robust_hub.models.identity.weights_hash` of the network as it was certified.
        logits: Sha256 of its logits on fixed inputs.
        image: Sha256 of the image, `robust_hub.images.identity.image_hash`.
        index: The image's index, which its noise was addressed by.
        image_shape: Its shape, (C, H, W).
        dtype: The network's floating-point type, such as "float32".
        mean: Per-channel means, [0, 1]-pixel units.
        std: Per-channel standard deviations, likewise.
        batch_size: Images a network batch.
        device: Where the votes were counted, such as "cpu".
        compiled: Whether the network was compiled.
        versions: Names and versions of the software, sorted by name.

    Example:
        >>> origin = Origin(
        ...     "tiny", "0" * 64, "1" * 64, "2" * 64, 7, (3, 8, 8), "float32", (0.5,) * 3, (0.5,) * 3, 64, "cpu", False
        ... )
        >>> origin.index, origin.image_shape, origin.versions
        (7, (3, 8, 8), ())
    """

    model: str
    weights: str
    logits: str
    image: str
    index: int
    image_shape: tuple[int, ...]
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    batch_size: int
    device: str
    compiled: bool
    versions: tuple[tuple[str, str], ...] = ()
