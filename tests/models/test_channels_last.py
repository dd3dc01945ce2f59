"""Norms of channels_last images: the numbers and gradients of torch's group norm, and on CUDA none of its copies."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from norm_cases import DTYPES, EPS, Norm, assert_near, grouped, layered, make, operands, torchs
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from robust_hub.models import norms
from robust_hub.models.channels_last import group_norm, is_channels_last, layer_norm, to_autocast_type

SHAPES = ((2, 64, 5, 3), (3, 7, 4, 4), (5, 12, 1, 1), (1, 1, 3, 3), (0, 6, 4, 4), (2, 30, 1, 9))


@pytest.mark.filterwarnings("ignore:var_mean:UserWarning")  # of no images
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=str)
def test_every_norm_is_torchs_group_norm(
    shape: tuple[int, ...], dtype: torch.dtype, memory: torch.memory_format
) -> None:
    x, weight, bias = operands(shape, dtype)
    tensors = (x.to(memory_format=memory), weight, bias)
    channels = shape[1]
    assert_near(layered, 1, tensors)
    one_value = {channels} if shape[2:] == (1, 1) else set()  # its own mean, whose rounding is all that is left
    for groups in {1, math.gcd(channels, 32), channels} - one_value:
        assert_near(grouped(groups), groups, tensors)


@pytest.mark.parametrize("cut", [lambda x: x[::2], lambda x: x[:, :, 1:, ::2], lambda x: x.transpose(2, 3)])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=str)
def test_views_with_gaps_are_normalised_as_well(cut: Callable[[Tensor], Tensor], memory: torch.memory_format) -> None:
    x, weight, bias = operands((4, 12, 6, 5), torch.float32)
    tensors = (cut(x.to(memory_format=memory)), weight, bias)
    assert_near(layered, 1, tensors)
    assert_near(grouped(4), 4, tensors)


@pytest.mark.parametrize("norm", [layered, grouped(1), grouped(3), grouped(6)])
def test_gradients_are_those_of_differences(norm: Norm) -> None:
    x, weight, bias = operands((2, 6, 3, 2), torch.float64)
    last = x.to(memory_format=torch.channels_last).requires_grad_()
    assert gradcheck(norm, (last, weight.requires_grad_(), bias.requires_grad_()))


def test_without_weight_and_bias() -> None:
    x = operands((2, 6, 3, 2), torch.float64)[0]
    torch.testing.assert_close(group_norm(x, 3, None, None, EPS), functional.group_norm(x, 3, eps=EPS))


def test_groups_that_do_not_divide_the_channels_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        group_norm(torch.zeros(2, 6, 3, 2), 4, None, None, EPS)


def test_a_large_mean_costs_no_digits() -> None:
    """A variance from E[x^2] - E[x]^2 would be off by half here."""
    x, weight, bias = operands((2, 8, 6, 6), torch.float32)
    far = (x + 4096).to(memory_format=torch.channels_last)
    for norm, groups in ((layered, 1), (grouped(1), 1), (grouped(2), 2), (grouped(8), 8)):
        want = functional.group_norm(far.double(), groups, weight.double(), bias.double(), EPS)
        torch.testing.assert_close(norm(far, weight, bias).double(), want, rtol=0, atol=2e-3)


def test_float16_holds_variances_that_float16_does_not() -> None:
    x, weight, bias = operands((2, 8, 6, 6), torch.float16)
    for norm in (layered, grouped(1)):
        assert_near(norm, 1, (x * 1000, weight, bias))


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_under_autocast_the_type_is_that_of_torch_or_of_timms_fast_norm(dtype: torch.dtype, fast: bool) -> None:
    x, weight, bias = operands((2, 8, 3, 3), dtype)
    assert to_autocast_type(x, fast=fast) is x
    with torch.autocast("cpu", torch.bfloat16):
        want = torch.bfloat16 if fast else torch.promote_types(dtype, torch.float32)
        assert to_autocast_type(x, fast=fast).dtype == want
        if fast:  # what layer norm is without it, the device's autocast says: float32 on CUDA, not on the CPU
            y = layer_norm(x, weight, bias, EPS, fast=True)
            assert y.dtype == want
            torch.testing.assert_close(y.double(), torchs(1)(x, weight, bias).double(), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("norm", [layered, grouped(1), grouped(4), grouped(8)])
def test_channels_last_stays_and_compiles_into_one_graph(norm: Norm) -> None:
    x, weight, bias = operands((3, 8, 4, 5), torch.float32)
    last = x.to(memory_format=torch.channels_last)
    compiled = torch.compile(norm, backend="aot_eager", fullgraph=True, dynamic=True)
    want = norm(x, weight, bias)
    for y in (norm(last, weight, bias), compiled(last, weight, bias)):
        assert is_channels_last(y)
        torch.testing.assert_close(y, want)


def test_layer_norm_is_exported_for_any_batch() -> None:
    class Layer(nn.Module):
        def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            return layer_norm(x, weight, bias, EPS)

    tensors = operands((3, 8, 4, 5), torch.float32)
    program = torch.export.export(Layer(), tensors, dynamic_shapes=({0: torch.export.Dim.AUTO}, None, None))
    larger = torch.cat([tensors[0]] * 3).to(memory_format=torch.channels_last)
    torch.testing.assert_close(program.module()(larger, *tensors[1:]), layered(larger, *tensors[1:]))


class Operators(TorchDispatchMode):
    """The names of the operators that read tensors of a size or larger and are not mere views."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.names: list[str] = []
        self.size = size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if (
            func.namespace == "aten"
            and not func.is_view
            and any(isinstance(arg, Tensor) and arg.numel() >= self.size for arg in args)
        ):
            self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def ran(kind: str, shape: tuple[int, ...], memory: torch.memory_format, device: str = "cuda") -> tuple[list[str], bool]:
    """The operators of a norm on a device that need not be there, and whether its output is channels_last."""
    with FakeTensorMode(), torch.no_grad():
        layer, x = make(kind, shape[1], device).eval(), torch.empty(shape, device=device, memory_format=memory)
        with Operators(x.numel()) as seen:
            y = layer(x)
        assert y.dtype == x.dtype and y.shape == x.shape
        return seen.names, is_channels_last(y)


def kernel(kind: str, shape: tuple[int, ...], memory: torch.memory_format, device: str = "cuda") -> str:
    """The norm that ran, none if it was taken to pieces; whose batch norm it is depends on the size."""
    names = [name for name in ran(kind, shape, memory, device)[0] if name.endswith("norm")]
    return " ".join("batch_norm" if name in ("cudnn_batch_norm", "native_batch_norm") else name for name in names)


@pytest.mark.parametrize("compiling", [False, True])
@pytest.mark.parametrize("kind", ["gn", "in", "ln"])
def test_other_memory_devices_and_sizes_are_torchs(kind: str, compiling: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    last, theirs = torch.channels_last, "batch_norm" if kind == "in" else "native_group_norm"
    assert kernel(kind, (4, 64, 3, 5), torch.contiguous_format) == theirs
    assert kernel(kind, (4, 64, 3, 5), last, "cpu") == theirs
    if kind != "in":  # which refuses one pixel
        assert kernel(kind, (4, 64, 1, 1), last) == theirs
    ours = "native_layer_norm" if kind == "ln" else "" if compiling else theirs
    assert kernel(kind, (2**17 - 1, 64, 16, 16), last) == ours
    assert kernel(kind, (2**17, 64, 16, 16), last) == (ours if compiling else theirs)


@pytest.mark.parametrize("compiling", [False, True])
def test_layer_norm_on_cuda_is_one_operator(compiling: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    assert ran("ln", (4, 64, 3, 5), torch.channels_last) == (["native_layer_norm"], True)


@pytest.mark.parametrize("kind", ["gn", "in"])
def test_what_is_compiled_for_cuda_has_no_copies(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    names, last = ran(kind, (4, 64, 3, 5), torch.channels_last)
    assert last
    assert names == ["var_mean", "sub", "mul", "add"]


def test_an_export_keeps_torchs_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert ran("gn", (4, 64, 3, 5), torch.channels_last)[0] == ["native_group_norm"]
    assert ran("ln", (4, 64, 3, 5), torch.channels_last)[0] == ["native_layer_norm"]


@pytest.mark.parametrize("kind", ["gn", "in", "ln"])
def test_on_the_meta_device(kind: str) -> None:
    y = make(kind, device="meta")(torch.empty(2, 64, 3, 5, device="meta", memory_format=torch.channels_last))
    assert y.shape == (2, 64, 3, 5) and y.is_meta


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("kind", ["gn", "ln"])
def test_a_layer_made_with_fast_norm_runs_in_the_type_of_autocast(
    kind: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("avoids_copies", "is_fused"):
        monkeypatch.setattr(norms, name, lambda *_: True)
    layer = make(kind, device="cpu")
    layer._fast_norm = fast
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(torch.ones(2, 64, 3, 5).to(memory_format=torch.channels_last))
    assert y.dtype == (torch.bfloat16 if fast else torch.float32)
