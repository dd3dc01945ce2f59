"""A state dict as the bytes of a safetensors file: equal tensors and metadata give equal bytes.

The library writes the metadata in an order that differs from call to call, and so does the sha256 of equal weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

_LENGTH = 8  # bytes that hold the header's length, little-endian; the header is padded to a multiple of them
METADATA = "__metadata__"


def pack(state: Mapping[str, Tensor], said: Mapping[str, str]) -> bytes:
    """Write tensors as a safetensors file.

    Args:
        state: Contiguous tensors on the CPU, by name.
        said: What its header says of them.

    Returns:
        The file's bytes.
    """
    content = safetensors.torch.save(dict(state), metadata=dict(said))
    start = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    header = json.loads(content[_LENGTH:start])
    ordered = {METADATA: dict(sorted(header.pop(METADATA, {}).items())), **header}
    text = json.dumps(ordered, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH)
    return len(text).to_bytes(_LENGTH, "little") + text + content[start:]


def unpack(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the bytes of a safetensors file.

    Returns:
        The tensors, by name, and the metadata.

    Raises:
        ValueError: If they are of no such file.
    """
    try:
        state = safetensors.torch.load(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    return state, metadata(content)


def metadata(content: bytes) -> dict[str, str]:
    """Read what the header of a safetensors file says of its tensors.

    Args:
        content: The file's bytes.

    Raises:
        ValueError: If they have no such header.
    """
    header = json.loads(content[_LENGTH : _LENGTH + int.from_bytes(content[:_LENGTH], "little")])
    if not isinstance(header, dict):
        raise ValueError("no object of tensors")
    return dict(header.get(METADATA) or {})
