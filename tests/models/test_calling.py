"""How a network is called: memory, type and autograd are tried once, and what is no logits is refused in words."""

from __future__ import annotations

import random
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from robust_hub.models.calling import Calling, check_weights, coarsest, find_calling, floating_types
from robust_hub.models.logits import logits_of

LOGITS = torch.arange(6.0).view(2, 3)


class Scripted(nn.Module):
    """A module that computes a function, with tensors of some types."""

    def __init__(self, function: object, *dtypes: torch.dtype) -> None:
        super().__init__()
        self.function = function
        for k, dtype in enumerate(dtypes):
            self.register_buffer(f"b{k}", torch.ones(1).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)  # type: ignore[operator,no-any-return]


def images(*shape: int) -> Tensor:
    return torch.rand((2, *(shape or (3, 8, 8))), generator=torch.Generator().manual_seed(1))


def tried(function: object, *dtypes: torch.dtype, shape: tuple[int, ...] = (3, 8, 8)) -> Calling:
    return find_calling(Scripted(function, *dtypes), images(*shape))


@pytest.mark.parametrize(
    ("function", "memory"),
    [
        (lambda x: x.flatten(1), torch.channels_last),
        (lambda x: x.view(len(x), -1), torch.contiguous_format),
        (lambda x: x.view(-1, 64).view(-1, 3 * 64), torch.contiguous_format),
        (lambda x: x.as_strided((len(x), 192), (192, 1)), torch.contiguous_format),  # another function, and no error
        (lambda x: x.permute(0, 2, 3, 1).view(len(x), -1), torch.channels_last),
    ],
)
def test_memory_is_the_one_in_which_a_network_works(function: object, memory: torch.memory_format) -> None:
    assert tried(function).memory == memory


def test_one_channel_lies_in_either_memory() -> None:
    assert tried(lambda x: x.view(len(x), -1), shape=(1, 8, 8)).memory == torch.channels_last


@pytest.mark.parametrize("seed", range(12))
def test_logits_are_those_of_contiguous_images(seed: int) -> None:
    # Random chains of layers, some of which need contiguous memory: called as found, they compute what their user sees.
    choose = random.Random(seed)
    shape = (choose.choice([1, 2, 3, 4]), choose.choice([1, 4, 7]), choose.choice([1, 5, 8]))
    torch.manual_seed(seed)
    steps = [
        lambda x: x.relu(),
        lambda x: x.view(len(x) * x.shape[1], 1, *x.shape[2:]).view(x.shape),
        lambda x: x.reshape(len(x), -1).view(x.shape),
        lambda x: x.transpose(2, 3).contiguous().view(x.shape),
        lambda x: x.as_strided(x.shape, x.contiguous().stride()),
        nn.Conv2d(shape[0], shape[0], 3, padding=1),
    ]
    chosen = choose.choices(steps, k=3)
    head = nn.Linear(shape[0] * shape[1] * shape[2], 3)

    def network(x: Tensor) -> Tensor:
        for step in chosen:
            x = step(x)
        return head(x.flatten(1))  # type: ignore[no-any-return]

    x = torch.randn(5, *shape)
    calling = tried(network, shape=shape)
    with calling.mode():
        got = network(calling.place(x))
    torch.testing.assert_close(got.clone(), network(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", ["no_grad", "grad"])
def test_gradients_within_are_given_what_they_need(way: str) -> None:
    def network(x: Tensor) -> Tensor:
        with torch.set_grad_enabled(way == "no_grad" or torch.is_grad_enabled()):
            z = x.detach().clone().requires_grad_()
            return (x - torch.autograd.grad((z**2).sum(), z)[0]).flatten(1)

    calling = tried(network)
    assert calling.autograd == way and calling.describe(torch.float32) == {"autograd": way}
    with calling.mode():
        assert torch.allclose(network(images()), -images().flatten(1), atol=1e-6)


def test_types_are_those_of_the_tensors_but_for_eight_bits() -> None:
    mixed = Scripted(None, torch.int8, torch.float8_e4m3fn, torch.float32, torch.bfloat16, torch.float64)
    assert floating_types(mixed) == [torch.float32, torch.bfloat16, torch.float64]
    assert coarsest(mixed, torch.float32) == torch.bfloat16
    assert floating_types(Scripted(None, torch.int8)) == [torch.float32]


def test_a_network_whose_first_tensor_is_of_another_type_is_given_its_own() -> None:
    weight = torch.ones(3, 192, dtype=torch.bfloat16)
    calling = tried(lambda x: x.flatten(1) @ weight.t(), torch.float32, torch.bfloat16)
    assert calling.dtype == torch.bfloat16
    assert calling.describe(torch.float32) == {"input_dtype": "bfloat16"}


def test_images_that_do_not_fit_are_said_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"expected a model for images \(3, 8, 8\), got one that fails .* 224\): give"):
        tried(lambda x: (_ for _ in ()).throw(AssertionError("Input height\n (8) does not match 224.")))
    with pytest.raises(KeyError, match="mine"):  # not what layers raise: as it is
        tried(lambda x: {}["mine"])


@pytest.mark.parametrize(("count", "words"), [(2, "takes 2 at .* fails on 1"), (1, "takes 1 at .* fails on 2")])
def test_a_batch_of_one_size_is_refused_with_a_way_out(count: int, words: str) -> None:
    with pytest.raises(ValueError, match=rf"expected a network for any number of images, got one that {words}.*Dim"):
        tried(lambda x: x.reshape(count, 192))


def test_memory_that_does_not_hold_two_images_is_tried_with_one() -> None:
    def small(x: Tensor) -> Tensor:
        if len(x) > 1:
            raise torch.OutOfMemoryError
        return x.view(len(x), -1)

    assert tried(small).memory == torch.contiguous_format


def test_a_network_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a network with weights, got 0.weight on the device 'meta'"):
        check_weights(nn.Sequential(nn.Linear(2, 2)).to("meta"))
    check_weights(nn.Linear(2, 2))


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        (LOGITS,),
        {"logits": LOGITS, "loss": None},
        SimpleNamespace(logits=LOGITS),
        namedtuple("Outputs", "logits aux")(LOGITS, LOGITS + 1),
    ],
)
def test_logits_that_are_there_without_doubt(output: object) -> None:
    assert logits_of(output) is LOGITS


@pytest.mark.parametrize(
    ("output", "got"),
    [
        ([LOGITS], "list"),
        ((LOGITS, LOGITS), "tuple of 2"),
        ({"out": LOGITS}, "dict with 'out'"),
        ({}, "dict with nothing"),
        (None, "NoneType"),
        (SimpleNamespace(logits=[1, 2]), "SimpleNamespace"),
        ({"logits": LOGITS[0]}, r"\(3,\)"),
        (LOGITS[:, :1], r"\(2, 1\)"),
    ],
)
def test_outputs_that_are_no_logits(output: object, got: str) -> None:
    with pytest.raises(ValueError, match=rf"expected logits \(B, K\) of at least 2 classes .*, got {got}: is"):
        logits_of(output)


@pytest.mark.parametrize("turn", [lambda x: x > 0, lambda x: x.to(torch.complex64), lambda x: x.to_sparse()])
def test_logits_that_cannot_be_compared(turn: object) -> None:
    with pytest.raises(ValueError, match="expected logits that are real numbers in a dense tensor, got torch"):
        logits_of(turn(LOGITS))  # type: ignore[operator]
    logits_of(LOGITS.int())
