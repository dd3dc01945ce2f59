"""Mean and std of a wrapper: those of the network within that is given its input as it is, and of no other."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import timm
import torch
from torch import Tensor, nn

from robust_hub import certify, finetune_clean, pretrain_mixed_noise
from robust_hub.images.pixels import mean_std
from robust_hub.images.wrapped import config_of

NAME = "resnet18s_ln"


class Wrapper(nn.Module):
    def __init__(self, *models: nn.Module, call: Callable[..., Tensor] | None = None) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.loss = nn.CrossEntropyLoss()
        self.call = call or (lambda x, first, *rest: first(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x, *self.models)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return timm.create_model(NAME)


def other(model: nn.Module) -> nn.Module:
    twin = copy.deepcopy(model)
    twin.pretrained_cfg = {**twin.pretrained_cfg, "mean": (0.1, 0.2, 0.3)}
    return twin


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        nn.Sequential,
        Wrapper,
        lambda m: nn.DataParallel(Wrapper(nn.Sequential(m, nn.Softmax(1)))),
        lambda m: Wrapper(m, call=lambda x, m: m(x=x)),
        lambda m: Wrapper(m, copy.deepcopy(m), call=lambda x, a, b: a(x) + b(x)),
        lambda m: Wrapper(m, call=lambda x, m: m(x) + m(x.flip(3))),
        lambda m: Wrapper(m).bfloat16(),
    ],
)
def test_a_network_that_is_given_the_input_says_mean_and_std(
    wrap: Callable[[nn.Module], nn.Module], model: nn.Module
) -> None:
    wrapped = wrap(copy.deepcopy(model))
    assert mean_std(wrapped) == mean_std(model)
    assert not any(module._forward_pre_hooks for module in wrapped.modules())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: Wrapper(m, call=lambda x, m: m((x - 0.5) / 0.2)),
        lambda m: Wrapper(m, call=lambda x, m: m(x.clamp(0, 1))),
        lambda m: nn.Sequential(nn.BatchNorm2d(3), m),
        lambda m: nn.Sequential(nn.Identity(), m),
        lambda m: Wrapper(m, other(m), call=lambda x, a, b: a(x) + b(x)),
        lambda m: Wrapper(m, call=lambda x, m: m.forward_features(x)),
        lambda m: Wrapper(m, call=lambda x, m: x.mean((2, 3))),
        lambda m: Wrapper(m, call=lambda x, m: m(x[:, :, ::2])),
        lambda m: nn.Linear(2, 2),
    ],
)
def test_where_there_is_doubt_they_are_asked_for(wrap: Callable[[nn.Module], nn.Module], model: nn.Module) -> None:
    wrapped = wrap(copy.deepcopy(model)).train()
    before = {name: value.clone() for name, value in wrapped.state_dict().items()}
    assert config_of(wrapped) == {}
    with pytest.raises(ValueError, match="expected mean and std: this model has no pretrained_cfg that says them"):
        mean_std(wrapped)
    assert all(torch.equal(value, before[name]) for name, value in wrapped.state_dict().items())  # nothing was learnt


def test_one_number_is_for_all_channels(model: nn.Module) -> None:
    assert mean_std(nn.Flatten(), 0.5, 0.25) == ((0.5,), (0.25,))
    assert mean_std(nn.Flatten(), torch.tensor(0.5), (0.1, 0.2, 0.3)) == ((0.5,) * 3, pytest.approx((0.1, 0.2, 0.3)))
    assert mean_std(model, 0.5) == ((0.5,) * 3, mean_std(model)[1])
    with pytest.raises(ValueError, match="expected as many positive stds as means"):
        mean_std(model, (0.5,))


def test_other_channels_have_the_defaults_only_where_all_are_equal() -> None:
    vit = timm.create_model("vit_tiny_patch16_224", in_chans=4, depth=1)
    assert mean_std(vit) == ((0.5,) * 4, (0.5,) * 4)
    with pytest.raises(ValueError, match=r"expected mean and std of the 2 channels .* of 3: pass mean=\.\.\. and std="):
        mean_std(timm.create_model(NAME, in_chans=2))
    assert mean_std(timm.create_model(NAME, in_chans=1), 0.5, 0.25) == ((0.5,), (0.25,))


def test_a_name_is_no_model() -> None:
    doors: list[Callable[..., object]] = [finetune_clean, pretrain_mixed_noise, partial(certify, sigma=0.25, out="x")]
    for door in doors:
        with pytest.raises(
            TypeError, match="got 'resnet18s_ln': robust_hub.load_model makes one of a name or a folder"
        ):
            door("resnet18s_ln", "digits")
