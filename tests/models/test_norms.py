"""The four normalisations: what they average over, and the warning about batch norm."""

from __future__ import annotations

import warnings

import pytest
import timm
import torch
from timm.layers import norm as timm_norm
from torch import nn
from torch.nn import functional

from robust_hub.models.norms import NORMS, has_batch_norm, warn_batch_norm


def make(kind: str, channels: int = 64) -> nn.Module:
    return NORMS[kind](num_channels=channels) if kind == "gn" else NORMS[kind](channels)


def statistics(x: torch.Tensor, groups: int) -> torch.Tensor:
    """The plain formula: (x - mean) / sqrt(var + eps) over each group of channels of one image."""
    split = x.double().reshape(len(x), groups, -1)
    mean, var = split.mean(2, keepdim=True), split.var(2, correction=0, keepdim=True)
    return ((split - mean) / (var + 1e-5).sqrt()).reshape(x.shape).float()


def test_the_four_kinds() -> None:
    assert list(NORMS) == ["bn", "gn", "in", "ln"]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kind", "groups"), [("gn", 32), ("in", 64), ("ln", 1)])
def test_statistics_are_of_one_image(kind: str, groups: int, training: bool) -> None:
    x = torch.randn(3, 64, 4, 5, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 65)[:, None, None]
    torch.testing.assert_close(make(kind).train(training)(x), statistics(x, groups), atol=1e-4, rtol=1e-4)


def test_batch_norm_averages_over_the_batch() -> None:
    x = torch.randn(3, 64, 4, 5, generator=torch.Generator().manual_seed(0)) + torch.arange(3.0)[:, None, None, None]
    out = make("bn")(x)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(64), atol=1e-5, rtol=0)
    assert out.mean((1, 2, 3)).std() > 0.5


@pytest.mark.parametrize("kind", NORMS)
def test_one_gamma_and_one_beta_a_channel(kind: str) -> None:
    layer = make(kind)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {"weight": (64,), "bias": (64,)}
    assert torch.equal(layer.weight, torch.ones(64))
    assert torch.equal(layer.bias, torch.zeros(64))


def test_layer_norm_is_timms_on_the_cpu_bit_for_bit() -> None:
    layer, plain = make("ln"), timm_norm.GroupNorm1(64)
    assert isinstance(layer, timm_norm.GroupNorm1) and repr(layer) == repr(plain)
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2), layer.bias.uniform_(-1, 1)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(3, 64, 4, 5, generator=torch.Generator().manual_seed(0))
    for memory in (torch.contiguous_format, torch.channels_last):
        assert torch.equal(layer(x.to(memory_format=memory)), plain(x.to(memory_format=memory)))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.BatchNorm3d(2), nn.SyncBatchNorm(2)])
def test_batch_norm_is_found_wherever_it_stands(layer: nn.Module) -> None:
    assert has_batch_norm(layer)
    assert has_batch_norm(nn.Sequential(nn.Identity(), nn.Sequential(layer)))


@pytest.mark.parametrize("kind", ["gn", "in", "ln"])
def test_the_others_are_no_batch_norm(kind: str) -> None:
    assert not has_batch_norm(nn.Sequential(make(kind)))


def test_warning_names_the_job_and_the_way_out() -> None:
    with pytest.warns(UserWarning, match=r"^certify: this network has batch norm.*Use gn, in or ln"):
        warn_batch_norm(make("bn"), "certify")


def test_no_warning_without_batch_norm() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_batch_norm(make("ln"), "certify")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [32, 64, 256, 512])
def test_group_norm_is_the_same_in_either_memory_format(channels: int, dtype: torch.dtype) -> None:
    x = torch.randn(4, channels, 3, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    layer = make("gn", channels).to(dtype)
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2), layer.bias.uniform_(-1, 1)
    out = layer(last := x.to(memory_format=torch.channels_last))
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, layer(x), rtol=0.02 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)
    torch.testing.assert_close(layer(x), timm_norm.GroupNorm.forward(layer, last), rtol=0.02, atol=1e-5)


@pytest.mark.parametrize(("channels", "contiguous"), [(32, True), (224, True), (256, False), (512, False)])
def test_narrow_groups_leave_the_slow_kernel(channels: int, contiguous: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    plain = functional.group_norm
    monkeypatch.setattr(functional, "group_norm", lambda x, *rest: (seen.append(x.is_contiguous()), plain(x, *rest))[1])
    make("gn", channels)(torch.randn(2, channels, 4, 4).to(memory_format=torch.channels_last))
    assert seen == [contiguous]


@pytest.mark.parametrize("size", [16, 2])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_instance_norm_in_bfloat16_is_torchs(size: int, memory: torch.memory_format) -> None:
    x = torch.randn(4, 64, size, size, generator=torch.Generator().manual_seed(0)) * 3 + 1
    layer = make("in")
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2), layer.bias.uniform_(-1, 1)
    want = nn.InstanceNorm2d.forward(layer, rounded := x.bfloat16().float())
    got = layer.bfloat16()(rounded.bfloat16().to(memory_format=memory))
    assert got.dtype == torch.bfloat16 and got.is_contiguous(memory_format=memory)
    torch.testing.assert_close(got.float(), want, rtol=0.02, atol=0.03)


def test_instance_norm_refuses_to_train_on_one_pixel_in_every_type() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.raises(ValueError, match="more than 1 spatial element"):
            make("in").to(dtype)(torch.zeros(2, 64, 1, 1, dtype=dtype))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", NORMS)
def test_scripted_and_symbolically_traced_networks_give_the_same_logits(kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = timm.create_model(f"resnet18s_{kind}", num_classes=5).to(dtype).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False).add_(torch.randn_like(parameter), alpha=0.01)
    scripted, traced = torch.jit.script(model), torch.fx.symbolic_trace(model)
    for memory in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 3, 32, 32).to(dtype=dtype, memory_format=memory)  # type: ignore[call-overload]
        want = model(x)
        assert torch.equal(scripted(x), want) and torch.equal(traced(x), want)


@pytest.mark.parametrize("kind", ["gn", "in", "ln"])
@pytest.mark.parametrize("size", [(2, 64, 4, 5), (64, 4, 5)])
def test_a_graph_chooses_by_what_it_is_given(kind: str, size: tuple[int, ...]) -> None:
    layer = make(kind)
    size = size if kind == "in" or len(size) == 4 else (3, *size)  # without a batch: instance norm alone
    traced, plain = torch.fx.symbolic_trace(layer), torch.randn(size)
    assert torch.equal(traced(plain), layer(plain))
    half = layer.bfloat16(), plain.bfloat16()
    assert torch.equal(torch.fx.symbolic_trace(half[0])(half[1]), half[0](half[1]))
    layer.float()
    if kind == "in":
        assert torch.equal(layer(plain), nn.InstanceNorm2d.forward(layer, plain))


def test_instance_norm_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="expected 3D or 4D input"):
        make("in")(torch.zeros(64, 4))
    with pytest.raises(ValueError, match="expected 64 channels as num_features says, got 32"):
        make("in")(torch.zeros(2, 32, 4, 4))
