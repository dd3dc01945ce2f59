"""Decoding: an encoded image becomes bytes as its owner sees them; many images in processes of their own.

Threads that read and decode small images wait for one another wherever the time is Python's own: two keep two CPUs
busy, fourteen do not keep fourteen. The processes are this file, run by its path: it imports numpy and Pillow alone. A
process of multiprocessing would run the user's script again, and with it whatever stands there without a guard.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np
from PIL import Image, ImageOps

PIPE = 1 << 20  # bytes on the way between two processes, where the system lets one choose
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # of Pillow, by the number of channels
Pixels = np.ndarray[Any, Any]
_WIDE_NOTE = "robust_hub: 16 bits"
_ORIENTATION = 0x0112  # the tag of EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(encoded: bytes | str) -> Image.Image:
    """Decode the bytes of an image, or those of the file with that path, in the image's own mode.

    Raises:
        OSError: If it is damaged; Pillow raises SyntaxError and Image.DecompressionBombError as well.
    """
    try:
        with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
            wide = _is_wide(image)
            image.load()
            image.info |= {_WIDE_NOTE: True} if wide and image.mode[0] not in "IF" else {}
            return image
    except (OSError, SyntaxError, MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:  # of damaged bytes, decoders raise much else: ValueError, struct.error, zlib.error
        raise OSError(str(error) or type(error).__name__) from error


def _is_wide(image: Image.Image) -> bool:
    """Tell, before it is loaded, whether Pillow would keep the upper 8 bits alone of colours with 16."""
    for codec, _, _, args in getattr(image, "tile", ()):
        most = args[1] if codec == "ppm" and isinstance(args, tuple) and len(args) > 1 else 255
        if ";16" in str(args) or (isinstance(most, int) and most > 255):
            return True
    return False


def has_bytes(image: Image.Image) -> bool:
    """Tell whether an image has 8 bits or fewer a channel, and not integers or floats."""
    return image.mode[0] not in "IF" and _WIDE_NOTE not in image.info and not _is_wide(image)


def mode_of(image: Image.Image) -> str:
    """Say an image's mode, for errors, with the bits that Pillow's own name leaves out."""
    return f"mode {image.mode}{' of 16 bits' if _WIDE_NOTE in image.info or _is_wide(image) else ''}"


def as_seen(image: Image.Image, channels: int = 3) -> Image.Image:
    """Give an image of 8 bits as its owner sees it: upright by its EXIF notes, what is transparent in front of white.

    This is the one place where both are decided, and how colours become grey or grey becomes colours.

    Args:
        image: An image for which `has_bytes` holds.
        channels: 1 for grey, the luma of ITU-R 601-2; 3 for RGB; 4 for RGB and alpha, which then stays as it is.

    Returns:
        An image of mode L, RGB or RGBA.

    Raises:
        ValueError: If Pillow cannot convert its colours, such as LAB.
    """
    image = _upright(image)
    image = image.convert("LA") if image.mode == "La" else image  # the one thing that Pillow makes of it
    if channels != 4 and image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(MODES[channels])


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # Pillow turns a TIFF here, and forgets its note
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # whatever damaged notes raise: the image itself is there
        return image
    return image if turn is None else image.transpose(turn)


def fit(image: Image.Image, size: int | None) -> Pixels:
    """Give an image as uint8 (C, H, W), with a size its shorter side resized to that and the centre cropped."""
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), method=Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def processes() -> int:
    """Give how many processes may decode: the CPUs of this process, shared with the others of a launched training."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cpus // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if sys.executable else 1


class Decoders:
    """Processes that decode images while the context lasts; one that a thread of this process asks at a time.

    Args:
        count: Number of processes.
    """

    def __init__(self, count: int) -> None:
        self._threads = ThreadPoolExecutor(count)
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        self._all: list[subprocess.Popen[bytes]] = []
        self._count = count

    def __enter__(self) -> Decoders:
        """Start the processes, in a session of their own: Ctrl-C is for this process, which ends them."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        for _ in range(self._count):
            one = subprocess.Popen(
                [sys.executable, "-P", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,
                pipesize=PIPE,
            )
            self._all.append(one)
            self._idle.put(one)
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes, and the threads that wait for them."""
        for one in self._all:
            one.kill()
        self._threads.shutdown(cancel_futures=True)
        for one in self._all:
            one.wait()
            for pipe in (one.stdin, one.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):  # what was not sent has nobody to read it
                    pipe.close()

    def each(self, work: Callable[[int], None], parts: Iterable[int]) -> None:
        """Do a work that calls `decode` for every part, several at a time; the first error in their order is raised."""
        for _ in self._threads.map(work, parts):
            pass

    def decode(self, encoded: list[Any], size: int | None, channels: int = 3) -> Pixels | list[Pixels | None]:
        """Decode images as `open_image`, `as_seen` and `fit` do.

        Returns:
            uint8 (B, C, H, W). Of images of several sizes, and where one cannot be decoded, a list; None stands for
            what the caller has to decode itself, and so to explain.

        Raises:
            ChildProcessError: If the process ended.
        """
        one = self._idle.get()
        assert one.stdin is not None and one.stdout is not None
        try:
            pickle.dump((encoded, size, channels), one.stdin, pickle.HIGHEST_PROTOCOL)
            one.stdin.flush()
            images: Pixels | list[Pixels | None] = pickle.load(one.stdout)
            return images
        except (EOFError, OSError, pickle.UnpicklingError):
            one.kill()
            raise ChildProcessError(
                f"expected {self._count} processes that decode images, got one that ended (exit code {one.wait()}): if "
                "it was killed for want of memory, make room and load the data again"
            ) from None
        finally:
            self._idle.put(one)


def _decoded(encoded: Any, size: int | None, channels: int) -> Pixels | None:
    try:
        image = open_image(encoded)
        return fit(as_seen(image, channels), size) if has_bytes(image) else None
    except Exception:  # whatever it is, the process that asked decodes the image again and words it
        return None


def _serve() -> None:
    """Answer what `Decoders.decode` asks on standard input until there is nobody who asks."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    try:
        while True:
            encoded, size, channels = pickle.load(requests)
            images = [_decoded(one, size, channels) for one in encoded]
            good = [one for one in images if one is not None]
            equal = len(good) == len(images) and len({one.shape for one in good}) == 1
            pickle.dump(np.stack(good) if equal else images, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
    except (EOFError, BrokenPipeError, pickle.UnpicklingError):  # nobody is there: leave without a last flush
        os._exit(0)


if __name__ == "__main__":
    _serve()
