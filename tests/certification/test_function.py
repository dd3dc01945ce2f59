"""What is refused because its votes are not those of one fixed function of one image, and what is not."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robust_hub.certification import sampler
from robust_hub.certification.evaluate import certify
from robust_hub.certification.function import logits_hash, try_rows, warn_of_logits
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.images.data import ImageData, load_data
from robust_hub.models.modes import eval_mode

SHAPE = (3, 8, 8)
PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
OPTIONS = {"n0": 40, "n": 300, "seed": 1, "batch_size": 64}


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))


def scripted(function: object) -> nn.Module:
    class Scripted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)  # type: ignore[operator]

    return Scripted()


def images(count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, *SHAPE), generator=torch.Generator().manual_seed(9)) / 255


def by_the_mean(x: Tensor) -> Tensor:
    """Let every image vote as the mean of its batch, which has next to no noise."""
    bright = x.mean() - 0.1
    return torch.stack([-bright, bright]).expand(len(x), 2)


def without_running_statistics() -> nn.Module:
    model = network()
    model[1] = nn.BatchNorm2d(8, track_running_stats=False)
    return model


def quantised(x: Tensor) -> Tensor:
    """Round by a scale that the whole batch shares, as careless 8-bit inference does."""
    logits = x.mean((2, 3))
    scale = x.abs().max() / 7
    return (logits / scale).round() * scale


@pytest.mark.parametrize(
    "model", [scripted(by_the_mean), without_running_statistics(), scripted(quantised)], ids=["mean", "norm", "scale"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_that_interact_are_refused(model: nn.Module, dtype: torch.dtype) -> None:
    classifier = SmoothedClassifier(model.to(dtype), **PLAIN)
    with pytest.raises(ValueError, match=r"expected a function of one image, got other logits .* rows interact"):
        classifier.certify(images()[0], 0.5, **OPTIONS)
    with pytest.raises(ValueError, match="rows interact"):
        classifier.predict(images()[0], 0.5, n=100, batch_size=64)


@pytest.mark.parametrize("where", ["first row", "position"])
def test_a_row_that_knows_its_place_is_refused(where: str) -> None:
    def placed(x: Tensor) -> Tensor:
        logits = x.mean((2, 3))
        if where == "first row":
            return logits + (torch.arange(len(x)) == 0).float()[:, None] * torch.tensor([1.0, 0, 0])
        return logits + torch.arange(len(x)).float()[:, None] * torch.tensor([0.01, 0, 0])

    with pytest.raises(ValueError, match="rows interact"):
        SmoothedClassifier(scripted(placed), **PLAIN).certify(images()[0], 0.5, **OPTIONS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("batch_size", [1, 2, 7, 64])
def test_sound_networks_pass(dtype: torch.dtype, batch_size: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = network().to(dtype)
        certificate = SmoothedClassifier(model, **PLAIN).certify(
            images()[0], 0.5, **{**OPTIONS, "batch_size": batch_size}
        )
    assert certificate.n == 300


def test_rounding_is_no_interaction() -> None:
    batch, eps = torch.rand(16, 3), torch.finfo(torch.float32).eps
    other = {16: 1.0, 1: 1 + 100 * eps}  # another kernel for one image rounds otherwise
    try_rows(lambda x: x * other[len(x)], batch, batch, torch.float32, alone=True)
    other[1] = 1 + 1e-3
    with pytest.raises(ValueError, match="alone"):
        try_rows(lambda x: x * other[len(x)], batch, batch, torch.float32, alone=True)
    try_rows(lambda x: x * other[len(x)], batch, batch, torch.float32, alone=False)
    with pytest.raises(ValueError, match="among other images"):
        try_rows(lambda x: x - x.mean(), batch, batch - batch.mean(), torch.float32, alone=False)


@pytest.mark.parametrize("at", [6, 9, 12])
def test_weights_that_change_meanwhile_are_found_out(at: int) -> None:
    model = network()
    calls = 0

    def train(module: nn.Module, inputs: object) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            with torch.no_grad():
                model[-1].bias[0] += 0.05

    model.register_forward_pre_hook(train)
    with pytest.raises(
        ValueError, match="expected one fixed function, got other logits .* changed, trained or has a state"
    ):
        SmoothedClassifier(model, **PLAIN).certify(images()[0], 0.5, **OPTIONS)


def test_a_class_that_is_left_out_hides_no_interaction() -> None:
    def masked(x: Tensor) -> Tensor:
        return torch.cat([by_the_mean(x), torch.full((len(x), 1), -1e9)], 1)

    with pytest.raises(ValueError, match="rows interact"):
        SmoothedClassifier(scripted(masked), **PLAIN).certify(images()[0], 0.5, **OPTIONS)


def test_rounding_of_a_class_that_is_left_out_is_no_interaction() -> None:
    batch = torch.rand(16, 3) + torch.tensor([0.0, 0.0, -1e9])
    try_rows(lambda x: x - torch.tensor([0.0, 0.0, 64.0]), batch, batch, torch.float32, alone=True)


def test_rows_beyond_a_capacity_are_refused() -> None:
    def limited(x: Tensor) -> Tensor:
        served = torch.arange(len(x))[:, None] < max(16, len(x) // 2)  # more than are tried, as experts have it
        return torch.where(served, x.mean((2, 3)), torch.tensor([1.0, 0.0, 0.0]))

    with pytest.raises(ValueError, match="rows interact"):
        SmoothedClassifier(scripted(limited), **PLAIN).certify(images()[0], 0.5, **OPTIONS)


def test_images_served_first_are_not_those_of_the_front_alone() -> None:
    def limited(x: Tensor) -> Tensor:
        dark = x.abs().amax((1, 2, 3)) == 0
        place = torch.cumsum(~dark, 0)[:, None]
        return torch.where(place <= 20, x.mean((2, 3)), torch.tensor([1.0, 0.0, 0.0]))

    with pytest.raises(ValueError, match="at the front of a batch"):
        SmoothedClassifier(scripted(limited), **PLAIN).certify(images()[0], 0.5, **OPTIONS)


def test_bfloat16_hides_no_interaction_in_what_all_logits_share() -> None:
    def shared(x: Tensor) -> Tensor:
        return by_the_mean(x - 0.5) + 10

    model = scripted(shared)
    model.register_buffer("held", torch.ones(1, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="rows interact"):
        SmoothedClassifier(model, **PLAIN).certify(images()[0], 0.5, **OPTIONS)


def test_a_network_in_bfloat16_that_changes_is_found_out() -> None:
    calls = []

    def changing(x: Tensor) -> Tensor:
        calls.append(len(x))
        return 4 * x[:, :, 0, 0] + (0.25 if len(calls) > 9 else 0.0) * torch.tensor([1.0, 0.0, 0.0], dtype=x.dtype)

    model = scripted(changing)
    model.register_buffer("held", torch.ones(1, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="expected one fixed function"):
        SmoothedClassifier(model, **PLAIN).certify(images()[0], 0.5, **OPTIONS)


def test_a_network_that_is_changed_between_two_calls_is_tried_again() -> None:
    model = network()
    classifier = SmoothedClassifier(model, **PLAIN)
    classifier.certify(images()[0], 0.5, **OPTIONS)
    model[1] = nn.BatchNorm2d(8, track_running_stats=False)
    with pytest.raises(ValueError, match="rows interact"):
        classifier.certify(images()[0], 0.5, **OPTIONS)


def test_a_network_may_write_its_logits_to_one_place() -> None:
    plain, place = network().eval(), torch.zeros(64, 4)

    def static(x: Tensor) -> Tensor:
        return place[: len(x)].copy_(plain(x))

    kept, classifier = SmoothedClassifier(plain, **PLAIN), SmoothedClassifier(scripted(static), **PLAIN)
    assert torch.equal(classifier.classify(images(9), batch_size=4), kept.classify(images(9), batch_size=4))
    votes = [one.certify(images()[0], 0.5, **OPTIONS).counts for one in (classifier, kept)]
    assert votes[0] == votes[1]


def test_the_type_is_that_of_floating_point_tensors() -> None:
    model = network()
    model.register_parameter("codes", nn.Parameter(torch.ones(3, dtype=torch.int8), requires_grad=False))
    assert SmoothedClassifier(model, **PLAIN).certify(images()[0], 0.5, **OPTIONS).origin.dtype == "float32"
    buffered = scripted(lambda x: x.mean((2, 3)))
    buffered.register_buffer("scale", torch.ones(1, dtype=torch.float64))
    assert SmoothedClassifier(buffered, **PLAIN).dtype == torch.float64


class Fickle(nn.Module):
    """A network that says the contrary from its 60th call on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        logits = x.mean((2, 3))
        return logits if self.calls < 60 else -logits


def test_a_network_that_counts_its_calls_is_found_out() -> None:
    with pytest.raises(ValueError, match="expected one fixed function"):
        SmoothedClassifier(Fickle(), **PLAIN).certify(images()[0], 0.5, n=4000, batch_size=64)


def test_a_long_run_is_tried_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "AGAIN", 2)
    model = network()
    classifier = SmoothedClassifier(model, **PLAIN)
    stream = enumerate(images(40))
    certificates = classifier.certify_each(stream, 0.5, classifier_plan(), batch_size=64, seed=1)
    next(certificates)
    with torch.no_grad():
        model[-1].weight[0] += 0.1
    given = 0
    with pytest.raises(ValueError, match="expected one fixed function"):
        for _ in certificates:
            given += 1
    assert given < 10


def test_a_long_image_is_tried_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "AGAIN", 10)
    network = Fickle()
    with pytest.raises(ValueError, match="expected one fixed function"):
        SmoothedClassifier(network, **PLAIN).certify(images()[0], 0.5, n=64_000, batch_size=64)
    assert network.calls < 100  # of 1,000 that the image takes


def classifier_plan():
    from robust_hub.guarantee.plans import fixed_plan

    return fixed_plan(n0=10, n=100, alpha=0.01)


def test_a_network_that_is_put_in_training_mode_meanwhile_is_refused() -> None:
    model = network().eval()
    calls = 0

    def disturb(module: nn.Module, inputs: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 11:
            model.train()

    model.register_forward_pre_hook(disturb)
    with pytest.raises(RuntimeError, match="expected the network in eval mode, got it in training mode"):
        SmoothedClassifier(model, **PLAIN).certify(images()[0], 0.5, **OPTIONS)


def test_a_network_without_parts_that_is_put_in_training_mode_is_refused() -> None:
    model = scripted(lambda x: x.mean((2, 3)))
    with eval_mode(model):
        model.train()
        with pytest.raises(RuntimeError, match="in training mode"), eval_mode(model):
            pass
    assert model.training


def test_a_stream_that_is_collected_in_between_blocks_nobody() -> None:
    class Collected(nn.Sequential):
        def modules(self) -> Iterator[nn.Module]:
            gc.collect()  # as may happen at any line
            return super().modules()

    def abandon() -> None:
        held = eval_mode(model)
        held.__enter__()
        ring: list[object] = [held]
        ring.append(ring)

    model = Collected(nn.Flatten())
    abandon()
    with eval_mode(model):
        assert not model.training
    assert model.training


@pytest.mark.parametrize("noise", ["lattice", "float"])
def test_a_stream_may_give_all_its_images_in_one_place(noise: str) -> None:
    classifier, plan, place = SmoothedClassifier(network(), **PLAIN), classifier_plan(), torch.empty(SHAPE)
    options = {"batch_size": 64, "noise": noise, "seed": 1}
    shared = classifier.certify_each(
        ((i, place.copy_(image)) for i, image in enumerate(images(4))), 0.5, plan, **options
    )
    apart = classifier.certify_each(enumerate(images(4)), 0.5, plan, **options)
    assert [certificate.counts for _, certificate, _ in shared] == [certificate.counts for _, certificate, _ in apart]


def test_a_stream_of_several_shapes_or_equal_indices_is_refused() -> None:
    classifier, plan = SmoothedClassifier(scripted(lambda x: x.mean((2, 3))), **PLAIN), classifier_plan()
    one, other = images()
    with pytest.raises(ValueError, match=r"expected images of one shape, .* at index 1"):
        list(classifier.certify_each([(0, one), (1, other[:, :4])], 0.5, plan))
    with pytest.raises(ValueError, match="expected different indices, got 0 twice"):
        list(classifier.certify_each([(0, one), (0, other)], 0.5, plan))
    with pytest.raises(ValueError, match="expected indices that are whole numbers"):
        classifier.certify_batch(images(), 0.5, plan=plan, indices=[0.25, 0.75])


def test_a_stream_may_begin_in_inference_mode() -> None:
    stream = SmoothedClassifier(network(), **PLAIN).certify_each(
        enumerate(images(40)), 0.5, classifier_plan(), batch_size=8
    )
    with torch.inference_mode():
        next(stream)
    assert len(list(stream)) == 39


def test_two_threads_certify_one_network_as_one_does() -> None:
    # Each puts the network in eval mode: neither may take it out while the other counts.
    model, x = network().train(), images(6)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    classifier = SmoothedClassifier(model, **PLAIN)
    want = [classifier.certify(image, 0.5, index=i, **OPTIONS) for i, image in enumerate(x)]
    got: dict[int, object] = {}

    def work(mine: range) -> None:
        own = SmoothedClassifier(model, **PLAIN)
        for i in mine:
            got[i] = own.certify(x[i], 0.5, index=i, **OPTIONS)

    threads = [threading.Thread(target=work, args=(range(k, 6, 3),)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[i] for i in range(6)] == want
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_modes_come_back_when_the_last_who_holds_them_is_done() -> None:
    model = network().train()
    model[1].eval()
    before = [module.training for module in model.modules()]
    first, second = eval_mode(model), eval_mode(model)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(module.training for module in model.modules())
    second.__exit__(None, None, None)
    assert [module.training for module in model.modules()] == before


def test_a_stream_holds_its_network_and_gives_it_back() -> None:
    model = network().train()
    stream = SmoothedClassifier(model, **PLAIN).certify_each(enumerate(images(4)), 0.5, classifier_plan(), seed=1)
    next(stream)
    assert not any(module.training for module in model.modules())
    stream.close()
    assert all(module.training for module in model.modules())


def test_autocast_is_off_inside_and_said_so() -> None:
    classifier, x = SmoothedClassifier(network(), **PLAIN), images()[0]
    want = classifier.certify(x, 0.5, **OPTIONS)
    with torch.autocast("cpu", torch.bfloat16), pytest.warns(UserWarning, match="torch.autocast is off while"):
        got = classifier.certify(x, 0.5, **OPTIONS)
    assert got == want
    assert got.origin == want.origin
    assert got.origin is not None
    assert got.origin.dtype == "float32"


def test_logits_that_leave_the_vote_to_the_order_of_classes_warn() -> None:
    with pytest.warns(UserWarning, match="gives all classes the same logit"):
        warn_of_logits(torch.tensor([[1.0, 2.0], [0.5, 0.5]]))
    with pytest.warns(UserWarning, match="largest logits are infinite"):
        warn_of_logits(torch.tensor([[1.0, 2.0], [0.5, torch.inf]]))
    for value in (torch.inf, -torch.inf, 0.0):
        with pytest.warns(UserWarning, match="gives all classes the same logit"):
            SmoothedClassifier(scripted(lambda x, v=value: torch.full((len(x), 3), v)), **PLAIN).certify(
                images()[0], 0.5, **OPTIONS
            )


def test_the_hash_of_logits_tells_networks_of_equal_weights_apart() -> None:
    def hashed(model: nn.Module, shape: tuple[int, int, int] = SHAPE) -> str:
        with torch.no_grad():
            return logits_hash(model, shape, 8, torch.device("cpu"))

    model = network().eval()
    assert hashed(model) == hashed(model)
    assert hashed(model) != hashed(scripted(lambda x: -model(x)))
    assert hashed(model) != hashed(network(1).eval())
    flat = scripted(lambda x: x.flatten(1)[:, :3])
    assert hashed(flat) != hashed(scripted(lambda x: x.flatten(1)[:, 1:4]))


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits", split="test")


def run_options(out: Path) -> dict[str, object]:
    return {
        "out": out,
        "every": 100,
        "n": 100,
        "batch_size": 32,
        "progress": False,
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
    }


def linear(sign: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    weight = torch.randn(10, 48)
    return scripted(lambda x: sign * nn.functional.avg_pool2d(x, 8).flatten(1) @ weight.T)


def test_records_of_another_function_are_not_gone_on_with(digits: ImageData, tmp_path: Path) -> None:
    # Neither network has weights that a hash could tell apart.
    certify(linear(), digits, 0.25, **run_options(tmp_path))
    with pytest.raises(ValueError, match="logits"):
        certify(linear(-1.0), digits, 0.25, **run_options(tmp_path))


def test_records_of_other_images_are_not_gone_on_with(digits: ImageData, tmp_path: Path) -> None:
    certify(linear(), digits, 0.25, **run_options(tmp_path))
    pixels, labels = digits.batch(list(range(len(digits))))
    pixels = pixels.clone()
    pixels[300] = 0  # one of five that are certified
    changed = ImageData(pixels, labels, digits.classes, name=digits.name, split=digits.split)
    with pytest.raises(ValueError, match="images_hash"):
        certify(linear(), changed, 0.25, **run_options(tmp_path))


def test_a_run_whose_weights_change_is_not_finished(digits: ImageData, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 10))
    model.register_buffer("unused", torch.zeros(1))
    calls = 0

    def count(module: nn.Module, inputs: object) -> None:
        nonlocal calls
        calls += 1
        model.unused += 1  # type: ignore[operator]  # a running statistic that no logit shows

    model.register_forward_pre_hook(count)
    with pytest.raises(ValueError, match="expected one network from the first image to the last, got other weights"):
        certify(model, digits, 0.25, **run_options(tmp_path))


def test_a_run_says_where_its_seed_is_from(digits: ImageData, tmp_path: Path) -> None:
    drawn = certify(linear(), digits, 0.25, **run_options(tmp_path / "a"))
    given = certify(linear(), digits, 0.25, seed=0, **run_options(tmp_path / "b"))
    assert (drawn.reproduction, given.reproduction) == (False, True)
    assert drawn.identity["seed"] > 10**6
    again = certify(linear(), digits, 0.25, seed=drawn.identity["seed"], **run_options(tmp_path / "a"))
    assert again.reproduction is False  # the run that is gone on with has drawn it
    assert {record.tau for record in drawn.records} == {1e-10}
    assert drawn.identity["noise"] == "lattice255"
    other = certify(linear(), digits, 0.25, noise="float", **run_options(tmp_path / "c"))
    assert (other.identity["noise"], {record.tau for record in other.records}) == ("float32", {None})
    with pytest.raises(ValueError, match="noise"):
        certify(linear(), digits, 0.25, noise="float", **run_options(tmp_path / "a"))


def test_a_resumed_run_takes_its_batch_size(digits: ImageData, tmp_path: Path) -> None:
    options = run_options(tmp_path)
    first = certify(linear(), digits, 0.25, **options)
    again = certify(linear(), digits, 0.25, **{**options, "batch_size": None})
    assert first.identity["batch_size"] == again.identity["batch_size"] == 32
    with pytest.raises(ValueError, match="batch_size"):
        certify(linear(), digits, 0.25, **{**options, "batch_size": 16})


def test_a_certificate_says_what_it_is_of() -> None:
    model, x = network(), images()[0]
    classifier = SmoothedClassifier(model, **PLAIN)
    fresh, given = classifier.certify(x, 0.5, n=300), classifier.certify(x, 0.5, n=300, seed=7, index=3)
    assert (fresh.reproduction, given.reproduction, given.seed) == (False, True, 7)
    assert fresh.seed is not None and fresh.seed != classifier.certify(x, 0.5, n=300).seed
    assert given.noise == "lattice255"
    origin = given.origin
    assert origin is not None
    assert (origin.index, origin.image_shape, origin.dtype, origin.compiled) == (3, SHAPE, "float32", False)
    with torch.no_grad():
        model[-1].bias.data += 1  # which no counter of torch's counts
    moved = classifier.certify(x, 0.5, n=300).origin
    assert moved is not None
    assert moved.weights != origin.weights
    assert moved.logits != origin.logits
    assert moved.image == origin.image


def test_no_certificate_is_given_away_of_a_network_that_has_changed() -> None:
    model = network()
    stream = SmoothedClassifier(model, **PLAIN).certify_each(
        enumerate(images(6)), 0.5, classifier_plan(), batch_size=64, seed=1
    )
    next(stream)
    with torch.no_grad():
        model[-1].bias[0] += 0.05
    with pytest.raises(ValueError, match="expected one fixed function"):
        next(stream)
