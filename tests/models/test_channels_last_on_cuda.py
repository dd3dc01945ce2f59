"""What needs a CUDA device: the norms' numbers there, their copies, their kernels and their time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import median

import pytest
import torch
from norm_cases import DTYPES, Norm, assert_near, make, operands, slope, torchs
from timm.layers.fast_norm import set_fast_norm
from torch import Tensor
from torch.func import functional_call
from torch.profiler import ProfilerActivity, profile

from robust_hub.models.channels_last import is_channels_last

pytestmark = pytest.mark.gpu
GROUPS = {"gn": 32, "in": 64, "ln": 1}


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> None:
    """One function has room for a few compilations, and every test compiles the same."""
    torch.compiler.reset()


def layer_of(kind: str, compiled: bool, dtype: torch.dtype, channels: int = 64, device: str = "cuda") -> Norm:
    """A norm of the package as a function of input, weight and bias."""
    layer = make(kind, channels, device, dtype)

    def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    return torch.compile(norm, fullgraph=True) if compiled else norm


@pytest.fixture
def fast_norm() -> Iterator[None]:
    set_fast_norm(True)
    yield
    set_fast_norm(False)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
@pytest.mark.parametrize("kind", GROUPS)
def test_on_cuda_every_norm_is_torchs_group_norm(kind: str, dtype: torch.dtype, compiled: bool) -> None:
    x, weight, bias = operands((8, 64, 6, 10), dtype, "cuda")
    last = x.to(memory_format=torch.channels_last)
    norm = layer_of(kind, compiled, dtype)
    assert_near(norm, GROUPS[kind], (last, weight, bias))
    assert_near(norm, GROUPS[kind], (x, weight, bias))
    if kind == "ln" or compiled:
        y = norm(leaf := last.clone().requires_grad_(), weight, bias)
        (slopes,) = torch.autograd.grad(y, leaf, slope(y, dtype))
        assert is_channels_last(y) and is_channels_last(slopes)


def assert_autocast_as_torchs(kind: str, compiled: bool) -> None:
    x, weight, bias = operands((8, 64, 6, 10), torch.float32, "cuda")
    x, norm = x.bfloat16(), layer_of(kind, compiled, torch.float32)
    with torch.autocast("cuda", torch.bfloat16):
        ours, theirs = norm(x.to(memory_format=torch.channels_last), weight, bias), norm(x, weight, bias)
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours.float(), theirs.float(), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("kind", GROUPS)
def test_on_cuda_autocast_gives_the_type_of_contiguous_images(kind: str, compiled: bool) -> None:
    assert_autocast_as_torchs(kind, compiled)


@pytest.mark.usefixtures("fast_norm")
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("kind", GROUPS)
def test_on_cuda_fast_norm_gives_the_type_of_contiguous_images(kind: str, compiled: bool) -> None:
    assert_autocast_as_torchs(kind, compiled)


def large(norm: Norm) -> Callable[[], Tensor]:
    """A forward and backward pass of a norm over 256 images of 512 channels and 16x16 pixels, in bfloat16."""
    leaves = [tensor.requires_grad_() for tensor in operands((256, 512, 16, 16), torch.bfloat16, "cuda")]
    leaf = leaves[0].detach().to(memory_format=torch.channels_last).requires_grad_()
    gradient = slope(leaf.detach(), torch.bfloat16)

    def step() -> Tensor:
        y = norm(leaf, *leaves[1:])
        torch.autograd.grad(y, (leaf, *leaves[1:]), gradient)
        return y

    return step


def copied_images(step: Callable[[], Tensor]) -> int:
    """How often a step copies as much as its output holds."""
    size = step().numel()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], record_shapes=True) as profiled:
        step()
        torch.cuda.synchronize()
    copies = [event for event in profiled.events() if event.name == "aten::copy_"]
    return sum(math.prod(event.input_shapes[0]) >= size for event in copies)


def seconds(step: Callable[[], Tensor], repeats: int = 30) -> float:
    """The median time of a step on the device, after some that are not counted."""
    times = []
    for _ in range(repeats + 10):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    return median(times[10:])


def torchs_with_the_copy_back(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What a network of channels_last convolutions pays for torch's group norm."""
    return torchs(1)(x, weight, bias).to(memory_format=torch.channels_last)


def test_on_cuda_no_image_is_copied() -> None:
    assert copied_images(large(torchs_with_the_copy_back)) >= 4
    for compiled in (False, True):
        assert copied_images(large(layer_of("ln", compiled, torch.bfloat16, 512))) == 0


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_on_cuda_layer_norm_forward_is_at_most_three_kernels(compiled: bool) -> None:
    x, weight, bias = operands((256, 64, 16, 16), torch.bfloat16, "cuda")
    last, norm = x.to(memory_format=torch.channels_last), layer_of("ln", compiled, torch.bfloat16)
    norm(last, weight, bias)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        norm(last, weight, bias)
        torch.cuda.synchronize()
    on_device = [e for e in profiled.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    names = [e.name for e in on_device if not e.is_user_annotation and not e.name.startswith(("Mem", "## "))]
    assert 1 <= len(names) <= 3, names


def test_on_cuda_layer_norm_is_faster_than_torchs_group_norm() -> None:
    theirs, fused = large(torchs_with_the_copy_back), large(torch.compile(torchs_with_the_copy_back))
    eager, compiled = (large(layer_of("ln", compiled, torch.bfloat16, 512)) for compiled in (False, True))
    assert seconds(theirs) > 1.5 * seconds(eager)
    assert seconds(theirs) > 1.5 * seconds(compiled)
    assert seconds(compiled) < 1.1 * seconds(fused)
