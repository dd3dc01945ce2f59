"""The weights of a fine-tuned network as their difference to those that it started from.

One clean epoch at a small learning rate leaves more than nine tenths of a network's bfloat16 weights bit for bit as
they were, and moves nearly all others by one unit in the last place. What it taught then takes a twentieth of the
bytes, exactly.

The format is one zlib stream of a safetensors file. A floating-point tensor that the base has in the same shape is
held as integers of its width: its bits minus those of the base's tensor, rounded to its type, modulo 2 to that width.
Every other tensor, such as a new classifier, is held whole. The metadata names the `dtype`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robust_hub.models.tensors import METADATA, pack, unpack
from robust_hub.parsing import read_bounded_json

_BITS = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}
_SPARE = 2**28  # bytes that a difference may unpack to beyond twice its base in float32: classifiers differ in size
_LENGTH, _HEADER = 8, 16_000_000  # bytes that hold the header's length, and most of the header


def encode(state: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> bytes:
    """Express tensors as a difference to others.

    Args:
        state: Contiguous tensors on the CPU; those of a floating-point type all of one type.
        base: The tensors that they are compared with.

    Returns:
        The compressed difference, the same for the same tensors.

    Raises:
        ValueError: If state holds several floating-point types, none, or one that is not known here.
    """
    types = {value.dtype for value in state.values() if value.is_floating_point()}
    if len(types) != 1 or not types <= _BITS.keys():
        raise ValueError(f"expected weights of one type among {', '.join(map(str, _BITS))}, got {types or 'none'}")
    dtype = types.pop()
    stored = {
        key: _minus(value, base[key]) if _comparable(key, value.shape, base) and value.dtype == dtype else value
        for key, value in state.items()
    }
    return zlib.compress(pack(stored, {"dtype": str(dtype).removeprefix("torch.")}), 9)


def decode(content: bytes, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors that a difference and its base make.

    Args:
        content: What `encode` gave.
        base: The tensors that it was compared with.

    Returns:
        The tensors, bit for bit those that were encoded.

    Raises:
        ValueError: If content is damaged, or belongs to a base of other shapes.
    """
    most = _SPARE + 8 * sum(value.numel() for value in base.values())
    stored, metadata = unpack(_inflated(content, most))
    dtype = {str(kind).removeprefix("torch."): kind for kind in _BITS}.get(metadata.get("dtype", ""))
    if dtype is None:
        raise ValueError(f"it is of type {metadata.get('dtype')!r}")
    state = {}
    for key, value in stored.items():
        differs = value.dtype == _BITS[dtype] and key in base and base[key].is_floating_point()
        if differs and value.shape != base[key].shape:
            raise ValueError(f"{key} has shape {tuple(value.shape)}, its base has {tuple(base[key].shape)}")
        state[key] = _plus(base[key], value, dtype) if differs else value
    return state


def _inflated(content: bytes, most: int) -> bytes:
    """Decompress a safetensors file no further than its own header says, which is at most so many bytes."""
    stream = zlib.decompressobj()

    def take(count: int, rest: bytes) -> tuple[bytes, bytes]:
        part = stream.decompress(rest, count) if count else b""
        return part, stream.unconsumed_tail

    try:
        start, rest = take(_LENGTH, content)
        length = int.from_bytes(start, "little")
        if length > min(most, _HEADER):
            raise ValueError(f"its header takes {length} bytes")
        header, rest = take(length, rest)
        entries = read_bounded_json(header.decode(), "header", _HEADER)
        promised = max((_end(one) for key, one in entries.items() if key != METADATA), default=0)
        if promised > most:
            raise ValueError(f"it holds more than {most} bytes")
        tensors, rest = take(promised, rest)
        beyond, _ = take(1, rest)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if beyond or not stream.eof or stream.unused_data:
        raise ValueError("it is cut short, or holds more bytes than its header says or anything behind its end")
    return start + header + tensors


def _end(entry: Any) -> int:
    """Give where a tensor ends, of its entry in the header."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or not offsets or not isinstance(offsets[-1], int):
        raise ValueError("its header is no safetensors header")
    return offsets[-1]


def _comparable(key: str, shape: torch.Size, base: Mapping[str, Tensor]) -> bool:
    return key in base and base[key].is_floating_point() and base[key].shape == shape


def _bits(value: Tensor) -> np.ndarray:
    """Give a tensor's bits as unsigned integers, whose differences wrap around."""
    signed = value.contiguous().view(_BITS[value.dtype]).numpy()
    return signed.view(np.dtype(f"u{signed.itemsize}"))


def _minus(value: Tensor, base: Tensor) -> Tensor:
    bits = _bits(value) - _bits(base.to(value.dtype))
    return torch.from_numpy(bits.view(np.dtype(f"i{bits.itemsize}")))


def _plus(base: Tensor, difference: Tensor, dtype: torch.dtype) -> Tensor:
    bits = _bits(base.to(dtype)) + difference.numpy().view(np.dtype(f"u{difference.itemsize}"))
    return torch.from_numpy(bits.view(np.dtype(f"i{bits.itemsize}"))).view(dtype)
