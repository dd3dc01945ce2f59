"""The hash of weights: plain, packed, quantised, of tensors of a class of their own, or refused."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_hub.models.identity import is_plain, weights_hash


class Holder(nn.Module):
    """A module whose state dict holds a value."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[prefix + "value"] = self.value


class Scaled(Tensor):
    """A tensor that is eight-bit integers with a scale, as those of torchao are."""

    @staticmethod
    def __new__(cls: type[Scaled], levels: Tensor, scale: Tensor, block: int) -> Scaled:
        return Tensor._make_wrapper_subclass(cls, levels.shape, dtype=torch.float32)  # type: ignore[attr-defined,no-any-return]

    def __init__(self, levels: Tensor, scale: Tensor, block: int) -> None:
        self.levels, self.scale, self.block = levels, scale, block

    def __tensor_flatten__(self) -> tuple[list[str], dict[str, int]]:
        return ["levels", "scale"], {"block": self.block}

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return args[0]
        raise NotImplementedError(func)


def scaled(level: int = 3, scale: float = 0.5, block: int = 32) -> Holder:
    return Holder(Scaled(torch.full((2, 2), level, dtype=torch.int8), torch.tensor([scale]), block))


def quantised(scale: float = 0.1, zero: int = 0, low: float = -1.0) -> Holder:
    return Holder(torch.quantize_per_tensor(torch.tensor([low, 1.0]), scale, zero, torch.qint8))


def per_channel(scale: float = 0.1) -> Holder:
    scales, zeros = torch.tensor([scale, 0.2]), torch.zeros(2, dtype=torch.long)
    return Holder(torch.quantize_per_channel(torch.ones(2, 2), scales, zeros, 0, torch.qint8))


def dynamic(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 3)), {nn.Linear})  # type: ignore[no-any-return]


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def test_plain_weights_are_hashed_as_ever() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode() + value.numpy().tobytes())
    assert weights_hash(model) == digest.hexdigest()
    assert all(is_plain(value) for value in model.state_dict().values())


@pytest.mark.parametrize(
    "models",
    [
        [scaled(), scaled(level=4), scaled(scale=0.25), scaled(block=64)],
        [quantised(), quantised(scale=0.2), quantised(zero=1), quantised(low=-0.5)],
        [per_channel(), per_channel(0.3)],
        [dynamic(0), dynamic(1)],
        [Holder((torch.ones(2), None)), Holder((torch.ones(2), torch.ones(1))), Holder((torch.ones(2), 1.5))],
        [Holder({"a": torch.ones(2)}), Holder({"b": torch.ones(2)})],
        [Holder(b"one"), Holder(b"two"), Holder(io.BytesIO(b"three"))],
        [Holder(torch.eye(2).to_sparse()), Holder((2 * torch.eye(2)).to_sparse())],
        [Holder(torch.qint8), Holder(torch.quint8), Holder(None), Holder("qint8")],
    ],
    ids=["own class", "quantised", "per channel", "dynamic", "tuple", "mapping", "bytes", "sparse", "words"],
)
def test_whatever_says_something_counts(models: list[nn.Module]) -> None:
    hashes = [weights_hash(model) for model in models]
    assert len(set(hashes)) == len(models)
    assert hashes == [weights_hash(model) for model in models]


def test_what_says_nothing_is_refused() -> None:
    with pytest.raises(TypeError, match="expected weights that are tensors or made of them, got value, a object"):
        weights_hash(Holder(object()))
    with pytest.raises(ValueError, match="expected weights, got bias on the device 'meta'"):
        weights_hash(nn.Linear(2, 2, device="meta"))
