"""The size of network batches: the automatic one, and halves of it where memory runs out."""

from __future__ import annotations

import gc
import math
import threading
import warnings
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robust_hub.certification import batches
from robust_hub.certification.batches import CACHED, Parts, suggest_batch_size
from robust_hub.certification.sampler import Sampler
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.guarantee.plans import Plan, fixed_plan, radius_plan, sequential_plan

SHAPE = (3, 8, 8)
PLANS = [fixed_plan(40, 300), sequential_plan((0.0, 0.1, 0.25), 500), radius_plan(0.1, n=400)]


class Small(nn.Module):
    """A network for whose batches memory runs out above a size, from a call on."""

    def __init__(self, holds: int, after: int = 0, error: Callable[[], Exception] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(12, 3))
        self.holds, self.after = holds, after
        self.error = error or (lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.holds and len(self.sizes) > self.after:
            raise self.error()
        logits: Tensor = self.head(x.contiguous())
        return logits


def smoothed(model: nn.Module) -> SmoothedClassifier:
    return SmoothedClassifier(model, mean=(0.5,) * 3, std=(0.5,) * 3)


def images(count: int) -> Tensor:
    return torch.randint(0, 256, (count, *SHAPE), generator=torch.Generator().manual_seed(9)) / 255


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


def network(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, channels, 3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("channels", [16, 24, 100])
def test_the_largest_activation_fills_the_cache(channels: int) -> None:
    size = suggest_batch_size(network(channels), torch.zeros(1, 3, 32, 32))
    held = size * channels * 32 * 32 * 4
    room = CACHED * torch.get_num_threads()
    assert held <= room < 2 * held
    assert math.log2(size).is_integer()


def test_half_the_bytes_are_twice_the_batch() -> None:
    x = torch.zeros(1, 3, 32, 32)
    model = network(64)
    assert suggest_batch_size(model.bfloat16(), x.bfloat16()) == 2 * suggest_batch_size(model.float(), x)


def test_never_below_eight_nor_above_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    assert suggest_batch_size(network(4), torch.zeros(1, 3, 2, 2)) == 1024
    monkeypatch.setattr(batches, "CACHED", 1)
    assert suggest_batch_size(network(4), torch.zeros(1, 3, 32, 32)) == 8


def test_batches_of_another_thread_do_not_count():
    class Busy(nn.Module):
        """Another thread classifies many images meanwhile, once."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.free = nn.Conv2d(3, 64, 1), True

        def forward(self, x):
            if self.free:
                self.free = False
                other = threading.Thread(target=self, args=(x.expand(64, -1, -1, -1),))
                other.start()
                other.join()
            return self.conv(x).mean((2, 3))

    model, x = Busy(), torch.zeros(1, 3, 16, 16)
    first = suggest_batch_size(model, x)
    assert not model.free and first == suggest_batch_size(model, x)


def test_no_hook_is_left_even_if_the_network_fails() -> None:
    model = network(4)
    suggest_batch_size(model, torch.zeros(1, 3, 8, 8))
    with pytest.raises(RuntimeError):
        suggest_batch_size(model, torch.zeros(1, 5, 8, 8))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_layer_without_tensors_of_its_own_counts_nothing() -> None:
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first: torch.Tensor = self.pair(x)[0]
            return first.flatten(1)

    assert suggest_batch_size(First(), torch.zeros(1, 3, 8, 8)) == 1024


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("after", [3, 6])  # calls: three find out in which memory the network takes images
@pytest.mark.parametrize(("size", "part"), [(64, 16), (50, 13), (17, 9)])
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.describe()["plan"])
def test_memory_that_runs_out_leaves_the_certificates(
    monkeypatch: pytest.MonkeyPatch, plan: Plan, size: int, part: int, after: int, depth: int
) -> None:
    x, options = images(3), {"plan": plan, "seed": 1}
    want = smoothed(Small(1000)).certify_batch(x, 0.5, batch_size=part, **options)
    monkeypatch.setattr(
        Sampler, "_depth", property(lambda self: depth)
    )  # 1: a batch is pending when the next one fails
    model = Small(part, after)
    with pytest.warns(UserWarning, match=f"batch of {size} images: it goes on with {part} at a time") as warned:
        assert smoothed(model).certify_batch(x, 0.5, batch_size=size, **options) == want
    assert len([one for one in warned if "at a time" in str(one.message)]) == 1
    tried = {1, 8}  # an image alone, and some that are tried again at the end
    assert set(model.sizes[after:]) - tried == {
        *halves(size, part)
    }  # one shape from then on, and each larger one failed once
    assert [model.sizes[after:].count(larger) for larger in halves(size, part)[:-1]] == [1] * (
        len(halves(size, part)) - 1
    )


def halves(size: int, part: int) -> list[int]:
    return [size] if size == part else [size, *halves(math.ceil(size / 2), part)]


def test_one_image_at_a_time_is_the_least() -> None:
    x = images(1)[0]
    with pytest.warns(UserWarning, match="with 1 at a time"):
        one = smoothed(Small(1)).certify(x, 0.5, n0=5, n=50, seed=1, batch_size=8)
    assert one == smoothed(Small(8)).certify(x, 0.5, n0=5, n=50, seed=1, batch_size=8)
    with pytest.raises(MemoryError, match=r"expected memory for one image \(3, 8, 8\), got none on cpu"):
        smoothed(Small(0)).certify(x, 0.5, n0=5, n=50, seed=1, batch_size=8)
    with pytest.raises(MemoryError, match=r"expected memory for one image \(3, 8, 8\)"):
        smoothed(Small(0)).suited_batch_size(SHAPE)


def test_later_work_begins_with_what_memory_holds_and_warns_no_more() -> None:
    model, x = Small(16), images(40)
    classifier = smoothed(model)
    with pytest.warns(UserWarning, match="with 16 at a time"):
        classes = classifier.classify(x, batch_size=32)
    assert torch.equal(classes, smoothed(Small(1000)).classify(x))
    assert classifier.suited_batch_size(SHAPE) == 16
    model.sizes.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predicted = classifier.predict(x[0], 0.5, n=100, seed=1, batch_size=32)
    assert predicted == smoothed(Small(1000)).predict(x[0], 0.5, n=100, seed=1)
    assert set(model.sizes) == {1, 8, 16}


def test_predict_halves_too() -> None:
    x = images(1)[0]
    with pytest.warns(UserWarning, match="with 25 at a time"):
        predicted = smoothed(Small(30)).predict(x, 0.5, n=100, seed=1, batch_size=100)
    assert predicted == smoothed(Small(1000)).predict(x, 0.5, n=100, seed=1)


@pytest.mark.parametrize("error", [lambda: MemoryError(), lambda: torch.OutOfMemoryError(), lambda: torch.empty(2**50)])
def test_memory_of_the_cpu_counts_too(error: Callable[[], Exception]) -> None:  # the last raises torch's own error
    with pytest.warns(UserWarning, match="with 4 at a time"):
        smoothed(Small(4, error=error)).classify(images(8), batch_size=8)


def test_another_error_is_raised_as_it_is() -> None:
    model = Small(4, error=lambda: RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        smoothed(model).classify(images(8), batch_size=8)
    assert model.sizes == [2, 2, 1, 8]  # it was tried before on two images in either memory format


def test_a_failed_batch_gives_its_memory_back_before_the_next() -> None:
    held: list[weakref.ref[Tensor]] = []

    def network(x: Tensor) -> Tensor:
        assert not any(activation() is not None for activation in held)
        activation = x + 1
        held.append(weakref.ref(activation))
        if len(x) > 2:
            raise torch.OutOfMemoryError
        return activation

    gc.disable()
    try:
        with pytest.warns(UserWarning, match="with 2 at a time"):
            assert torch.equal(
                Parts().run(network, torch.arange(8.0)[:, None], 2, "kind")[:, 0], torch.tensor([1.0, 2.0])
            )
    finally:
        gc.enable()


def test_parts_of_padding_alone_are_left_out() -> None:
    sizes, parts = [], Parts()

    def network(x: Tensor) -> Tensor:
        sizes.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError
        return x

    with pytest.warns(UserWarning, match="with 3 at a time"):
        parts.run(network, torch.arange(10.0), 10, "kind")
    sizes.clear()
    for wanted, calls in ((1, 1), (3, 1), (4, 2), (9, 3), (10, 4)):
        got = parts.run(network, torch.arange(10.0), wanted, "kind")
        assert torch.equal(got, torch.arange(min(3.0 * calls, 10.0)))
        assert sizes == [3] * calls
        sizes.clear()
