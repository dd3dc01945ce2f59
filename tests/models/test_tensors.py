"""The bytes of a file of weights: the library reads them, and equal tensors give equal ones."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

from robust_hub.models.tensors import pack, unpack

STATE = {
    "b": torch.arange(6.0).view(2, 3),
    "a": torch.ones(5, dtype=torch.bfloat16),
    "count": torch.tensor(3),
    "none": torch.empty(0, 2),
}
METADATA = {"stem": "cifar", "format": "pt", "norm": "ln", "architecture": "x"}


def test_equal_tensors_give_equal_bytes() -> None:
    assert len({pack(STATE, METADATA) for _ in range(20)}) == 1  # the library itself gives several
    assert pack(dict(reversed(STATE.items())), dict(reversed(METADATA.items()))) == pack(STATE, METADATA)


def test_the_library_reads_what_is_written(tmp_path) -> None:
    (tmp_path / "x.safetensors").write_bytes(pack(STATE, METADATA))
    read = safetensors.torch.load_file(str(tmp_path / "x.safetensors"))
    assert read.keys() == STATE.keys()
    assert all(torch.equal(read[k], v) and read[k].dtype == v.dtype for k, v in STATE.items())
    with safetensors.safe_open(str(tmp_path / "x.safetensors"), "pt") as file:
        assert file.metadata() == METADATA
    content = pack(STATE, METADATA)
    assert json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["a"]["dtype"] == "BF16"
    assert int.from_bytes(content[:8], "little") % 8 == 0  # tensors start where the format wants them


def test_what_is_written_is_read() -> None:
    state, metadata = unpack(pack(STATE, METADATA))
    assert metadata == METADATA and all(torch.equal(state[k], v) for k, v in STATE.items())
    state, metadata = unpack(safetensors.torch.save(STATE))
    assert metadata == {} and state.keys() == STATE.keys()


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"no such file at all", pack(STATE, METADATA)[:-1]])
def test_other_bytes_are_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="header|deserializ"):
        unpack(content)
