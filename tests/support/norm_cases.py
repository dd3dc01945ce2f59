"""Norms as functions of input, weight and bias, and how they are compared with torch's group norm."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from robust_hub.models.channels_last import group_norm, layer_norm
from robust_hub.models.norms import NORMS

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
EPS = 1e-5
Norm = Callable[[Tensor, Tensor, Tensor], Tensor]


def grouped(groups: int) -> Norm:
    return lambda x, weight, bias: group_norm(x, groups, weight, bias, EPS)


def layered(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return layer_norm(x, weight, bias, EPS)


def torchs(groups: int) -> Norm:
    return lambda x, weight, bias: functional.group_norm(x, groups, weight, bias, EPS)


def operands(shape: tuple[int, ...], dtype: torch.dtype, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """Images far from mean 0 and variance 1, weight and bias, in values that the type holds."""
    generator = torch.Generator().manual_seed(0)
    draw = [torch.randn(size, generator=generator, dtype=torch.float64) for size in (shape, shape[1], shape[1])]
    x, weight, bias = (tensor.to(device, dtype) for tensor in (draw[0] * 3 + 2, draw[1] * 0.5 + 1, draw[2]))
    return x, weight, bias


def slope(y: Tensor, dtype: torch.dtype) -> Tensor:
    """A gradient of some output, of values that a narrow type holds, in the output's memory format."""
    values = torch.sin(torch.arange(y.numel(), device=y.device, dtype=torch.float64)).reshape(y.shape)
    return values.to(dtype).to(y.dtype).to(memory_format=torch.channels_last)


def results(norm: Norm, tensors: tuple[Tensor, Tensor, Tensor], wide: bool = False) -> list[Tensor]:
    """The output of a norm and its gradients by input, weight and bias, in float64."""
    leaves = [(t.double() if wide else t).detach().requires_grad_() for t in tensors]
    y = norm(*leaves)
    y.backward(slope(y, tensors[0].dtype))
    return [t.double().detach() for t in (y, *(leaf.grad for leaf in leaves))]


def assert_near(norm: Norm, groups: int, tensors: tuple[Tensor, Tensor, Tensor], times: float = 8) -> None:
    """Equal to torch's group norm in float64 but for a few roundings of the type, forward and backward."""
    rounding = times * torch.finfo(tensors[0].dtype).eps
    exact = results(torchs(groups), tensors, wide=True)
    for got, want in zip(results(norm, tensors), exact, strict=True):
        scale = want.abs().max().item() if want.numel() else 0.0
        torch.testing.assert_close(got, want, rtol=rounding, atol=rounding * max(scale, 1))


def make(kind: str, channels: int = 64, device: str = "cuda", dtype: torch.dtype = torch.float32) -> nn.Module:
    first = {"num_channels": channels} if kind == "gn" else {}
    return NORMS[kind](*(() if first else (channels,)), **first, device=device, dtype=dtype)
