"""A picture of any kind as its owner sees it, in the channels of a network; or one sentence that says why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from robust_hub.images.decoding import MODES, as_seen, has_bytes, mode_of

_UNKNOWN = "cannot identify image file"  # how Pillow begins, with the place of an object in memory after it


@contextmanager
def decodable(where: str) -> Iterator[None]:
    """Word what Pillow raises of a damaged image as one ValueError that says where the image is."""
    try:
        yield
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(unreadable(error, where)) from error


def unreadable(error: Exception, where: str) -> str:
    """Say why the image there cannot be read, and what to do."""
    why = first_line(error)
    if isinstance(error, Image.DecompressionBombError):
        got = f"one above Pillow's limit at {where} ({why})"
        return f"expected an image of moderate size, got {got}: make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS"
    if isinstance(error, PermissionError):
        return f"expected an image that may be read, got {where} ({error.strerror}): give yourself the right to read it"
    if isinstance(error, FileNotFoundError):
        return f"expected an image that is there, got {where}, which is not any more: bring it back"
    if "MAX_TEXT" in why:
        got = f"one with more text in it than Pillow takes at {where} ({why})"
        return f"expected an image that can be decoded, got {got}: save it again without its text"
    if isinstance(error, UnidentifiedImageError) and why.startswith(_UNKNOWN):
        got = f"a damaged one at {where}, or one of no format that Pillow knows"
        return f"expected an image that can be decoded, got {got}: replace or remove it"
    return f"expected an image that can be decoded, got a damaged one at {where} ({why}): replace or remove it"


def first_line(error: Exception) -> str:
    """Give the first line of what an error says, or its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def seen(picture: Image.Image, channels: int, where: str) -> Image.Image:
    """Give a picture as `as_seen` does, in the channels of a network.

    Args:
        picture: The picture, decoded.
        channels: 1 for grey, 3 for RGB, 4 for RGB and alpha.
        where: Where it is, for errors.

    Raises:
        ValueError: If it is not of 8 bits, has colours that Pillow cannot convert, or no picture has such channels.
    """
    if not has_bytes(picture):
        raise ValueError(f"expected an 8-bit image, got {mode_of(picture)} at {where}: convert it to 8 bits")
    if channels not in MODES:
        raise ValueError(f"expected tensors of {channels} channels, got a picture at {where}: it has 1, 3 or 4")
    try:
        return as_seen(picture, channels)
    except ValueError as error:
        raise ValueError(f"expected a grey or RGB image, got mode {picture.mode} at {where} ({error})") from None
