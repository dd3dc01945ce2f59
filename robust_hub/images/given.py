"""Images as people hold them, PIL images, NumPy arrays and bytes, become the pixels in [0, 1] that are certified.

What is 8-bit becomes k / 255 exactly, whatever held it, so that its certificate is the same bit for bit. Nothing is
resized here without being asked: `prepare` is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from robust_hub.images.arrays import array_bytes, channels_first
from robust_hub.images.decoding import fit
from robust_hub.images.photograph import read_photograph
from robust_hub.images.pixels import channels_of, check_levels, check_pixels
from robust_hub.images.seen import decodable, seen
from robust_hub.images.wrapped import config_of
from robust_hub.numbers import whole_number

Picture: TypeAlias = Tensor | Image.Image | np.ndarray[Any, Any]
Pictures: TypeAlias = Tensor | np.ndarray[Any, Any] | Sequence[Picture]

_HERE = "the image given"
_FORMS = "a PIL image, a NumPy array or a tensor"


def prepare(
    image: Picture | str | PathLike[str], model: nn.Module, *, size: int | None = None, channels: int | None = None
) -> Tensor:
    """Bring a picture to the size that a network takes: the shorter side resized, the centre cropped.

    It is what `load_data(folder, size=...)` makes of the same picture, so a network sees here what it was trained on.
    A certificate is about the result, and not about the picture before.

    Args:
        image: A PIL image of 8 bits in any mode, or the path of a file with one; or an array or tensor as `certify`
            takes them, whose floats are rounded to 8 bits.
        model: The network; its `pretrained_cfg` says the size.
        size: Side of the square, in pixels; None for the network's own.
        channels: 1 for grey, 3 for RGB, 4 for RGB and alpha; None for as many as the network takes.

    Returns:
        Pixels in [0, 1], multiples of 1/255, float32 (C, size, size).

    Raises:
        TypeError: If image is no image and no path.
        ValueError: If the picture is damaged or not of 8 bits, or the network does not say what size it takes.

    Example:
        >>> from PIL import Image
        >>> import robust_hub
        >>> model = robust_hub.load_model("resnet18s_ln_mixednoise")
        >>> prepare(Image.new("RGB", (640, 480), "orange"), model).shape
        torch.Size([3, 32, 32])
    """
    if size is None:
        own = size_of(model)
        if own is None or own[0] != own[1]:
            raise ValueError(f"expected a network that says the side of its images, got {own}: pass size=...")
        size = own[0]
    size = whole_number("a size of at least 1 pixel", size)
    channels = channels_of(model) if channels is None else whole_number("channels of at least 1", channels)
    if isinstance(image, str | PathLike):
        return _unit(read_photograph(fspath(image), size, channels).pixels)
    if isinstance(image, Image.Image):
        return _unit(torch.tensor(fit(_seen(image, channels), size)))
    image = image if isinstance(image, Tensor) else _array(image)
    if image.dtype in (torch.uint8, np.uint8):
        check_levels(image, _HERE)
    return _unit(torch.tensor(array_bytes(image, size, channels, _HERE)))


def size_of(model: nn.Module) -> tuple[int, int] | None:
    """Give the height and width of the images that a network's `pretrained_cfg` names; None where it names none."""
    size = config_of(model).get("input_size")
    return tuple(size[-2:]) if isinstance(size, tuple | list) and len(size) == 3 else None


def image_pixels(x: Picture, channels: int, size: tuple[int, int] | None) -> Tensor:
    """Give one image as pixels in [0, 1], float (C, H, W); a floating-point tensor is given back as it is.

    Args:
        x: A PIL image of 8 bits; an array (H, W, C), (C, H, W) or, grey, (H, W), or a tensor (C, H, W), each of uint8
            or of floats in [0, 1]. What has an `__array__` of its own, such as an array of jax, is one of NumPy's.
        channels: C that the network takes; grey and RGB of 8 bits become one another as `load_data` has it.
        size: Height and width that an 8-bit image must have, those of the network; None takes any.

    Raises:
        TypeError: If x is no image, or its pixels are neither uint8 nor floats.
        ValueError: If it has another size or shape, may be read in two ways, or is not of 8 bits.
    """
    if isinstance(x, Tensor):
        if x.dtype != torch.uint8:
            return x
        if x.ndim != 3:
            raise ValueError(f"expected one image (C, H, W), got shape {tuple(x.shape)}")
        x = _dense(x)
        check_levels(x, _HERE)
        return _unit(_sized(_matched(x, channels), size).to(x.device))
    if isinstance(x, Image.Image):
        return _unit(_sized(torch.tensor(fit(_seen(x, channels), None)), size))
    item = _array(x)
    if item.ndim not in (2, 3) or item.size == 0:
        raise ValueError(f"expected one image (H, W, C), (C, H, W) or (H, W), got shape {item.shape}")
    if item.dtype == np.uint8:
        check_levels(item, _HERE)
        return _unit(_sized(torch.tensor(array_bytes(item, None, channels, _HERE)), size))
    if item.ndim == 3 and item.shape[2] == 4 != channels:
        raise ValueError(
            f"expected floats of {channels} channels, got shape {item.shape}: leave the alpha channel out, or pass "
            "uint8, which is put in front of white"
        )
    pixels: Tensor = channels_first(item, channels, _HERE)
    return pixels.expand(channels, -1, -1) if len(pixels) == 1 and channels == 3 else pixels


def batch_pixels(x: Pictures, channels: int, size: tuple[int, int] | None) -> Tensor:
    """Give images as pixels in [0, 1], float (B, C, H, W); a floating-point tensor is given back as it is.

    Args:
        x: A list of images, each in any form that `image_pixels` takes, all of one shape; or an array (B, H, W, C) or
            (B, C, H, W), or a tensor (B, C, H, W), of uint8 or floats.
        channels: C that the network takes.
        size: Height and width that 8-bit images must have; None takes any.

    Raises:
        TypeError: If x holds no images, or their pixels are neither uint8 nor floats.
        ValueError: As `image_pixels`, or if there are none, or of several shapes.
    """
    if isinstance(x, Tensor) and x.dtype != torch.uint8:
        return x
    if isinstance(x, Image.Image | str | PathLike):
        raise TypeError(f"expected several images, got {_kind(x)}: put it in a list, [image]")
    if not isinstance(x, list | tuple):
        x = x if isinstance(x, Tensor) else _array(x)
        if x.ndim != 4:
            also = "" if isinstance(x, Tensor) else " or (B, H, W, C), or a list of images"
            raise ValueError(f"expected images (B, C, H, W){also}, got shape {tuple(x.shape)}")
    if not len(x):
        raise ValueError("expected at least one image, got none")
    images = [check_pixels(image_pixels(one, channels, size)) for one in x]
    for at, image in enumerate(images):
        if image.shape != images[0].shape or image.device != images[0].device:
            raise ValueError(
                f"expected images of one shape on one device, {tuple(images[0].shape)} on {images[0].device} as the "
                f"first, got {tuple(image.shape)} on {image.device} at {at}: certify each shape by itself"
            )
    return torch.stack(images)


def _seen(image: Image.Image, channels: int) -> Image.Image:
    """Give a picture as its owner sees it, in a mode of so many channels."""
    if getattr(image, "tile", None) and getattr(image, "fp", image) is None:
        raise ValueError(
            f"expected an image that was read, got {_HERE}, whose file is closed: call load() before it is"
        )
    with decodable(_HERE):
        return seen(image, channels, _HERE)


def _array(x: Any) -> np.ndarray[Any, Any]:
    """Give an array of NumPy's, of uint8 or floats."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError("expected pixels, got a masked array: fill what is masked, x.filled(...)")
    if not isinstance(x, np.ndarray) and not hasattr(x, "__array__"):
        raise TypeError(f"expected {_FORMS}, got {_kind(x)}{_hint(x)}")
    array: np.ndarray[Any, Any] = np.asarray(x)
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        advice = "divide by the largest value that there may be, or make it 8-bit"
        raise TypeError(f"expected pixels of uint8, or floats in [0, 1], got {array.dtype}: {advice}")
    return array


def _matched(x: Tensor, channels: int) -> Tensor:
    """Give bytes (C, H, W) with the network's channels; grey and RGB become one another."""
    if len(x) == channels:
        return x
    return torch.tensor(array_bytes(x, None, channels, _HERE))


def _dense(x: Tensor) -> Tensor:
    """Refuse bytes that are not there one by one."""
    if x.layout != torch.strided or x.is_meta or x.numel() == 0:
        what = f"shape {tuple(x.shape)} and layout {x.layout} on {x.device}"
        raise ValueError(f"expected an image, got a tensor of {what}: pass its bytes, x.to_dense()")
    return x


def _sized(x: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Refuse an 8-bit image (C, H, W) of another size than the network's: what to cut off is for its owner to say."""
    if size is not None and tuple(x.shape[1:]) != size:
        (h, w), (height, width) = x.shape[1:], size
        raise ValueError(
            f"expected an image of {height}x{width}, the size that the network's config says, got {h}x{w}: pass "
            "robust_hub.prepare(image, model), which resizes and crops it, or floats (x / 255) to certify this size"
        )
    return x


def _unit(x: Tensor) -> Tensor:
    """Give bytes as float32 k / 255: looked up, since devices differ in how they divide."""
    return (torch.arange(256) / 255).to(x.device)[x.long()]


def _kind(x: object) -> str:
    return type(x).__name__


def _hint(x: object) -> str:
    """Say what to do with what is no image."""
    if isinstance(x, str | bytes | PathLike):
        return ": open it first, with PIL.Image.open or robust_hub.prepare(path, model)"
    if isinstance(x, list | tuple):
        return ": a list is of several images; make one image an array, np.array(x, dtype=np.uint8)"
    return ""
