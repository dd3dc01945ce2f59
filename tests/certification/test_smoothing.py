"""The sampler: against the plain reference, and invariant to everything but seed, image and index."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from reference import certify as reference_certify
from reference import fresh_noise, sample_under_noise, stream_noise
from reference import predict as reference_predict
from scipy.stats import norm
from seeds import SHIFT
from torch import Tensor, nn

from robust_hub.certification import copies, inputs
from robust_hub.certification.sampler import Sampler
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.guarantee.bounds import TAU
from robust_hub.guarantee.certificate import Certificate, certify_counts
from robust_hub.guarantee.composite import composite
from robust_hub.guarantee.look import ESTIMATION, PREDICTION, SELECTION
from robust_hub.guarantee.plans import radius_plan, sequential_plan
from robust_hub.images.laws import NoiseChoice, make_noise
from robust_hub.images.noise import NoiseStream
from robust_hub.models.classes import note_class_names

SHAPE = (3, 8, 8)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
CLASSES = 4


def tiny(seed: int = 0) -> nn.Module:
    """A network without training, whose votes split over its classes."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(128, CLASSES)
    )
    return model.eval()


def smoothed(model: nn.Module | None = None) -> SmoothedClassifier:
    return SmoothedClassifier(model or tiny(), mean=MEAN, std=STD)


def images(count: int = 5) -> Tensor:
    return torch.randint(0, 256, (count, *SHAPE), generator=torch.Generator().manual_seed(9)) / 255


def bare(certificate: Certificate) -> Certificate:
    """Leave out what is written on a certificate beside what votes say."""
    return replace(certificate, noise="float32", seed=None, reproduction=False, origin=None)


def scripted(function: object) -> nn.Module:
    """A module that computes `function`."""

    class Scripted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)  # type: ignore[operator]

    return Scripted()


@pytest.mark.parametrize("noise", ["lattice", "float"])
def test_counts_equal_the_reference_on_equal_noise(noise: NoiseChoice) -> None:
    model, x = tiny(), images(3)
    certificates = smoothed(model).certify_batch(
        x, 0.5, n0=40, n=300, alpha=0.01, batch_size=64, noise=noise, seed=7, indices=[4, 0, 9]
    )
    tau = TAU if noise == "lattice" else 0.0
    spread = 0
    for image, index, got in zip(x, (4, 0, 9), certificates, strict=True):
        selection, counts = (
            sample_under_noise(
                model, image, num, stream_noise(noise, 0.5, 7, index, purpose, SHAPE), MEAN, STD, CLASSES
            )
            for purpose, num in ((SELECTION, 40), (ESTIMATION, 300))
        )
        prediction, radius, lower = reference_certify(selection, counts, 0.5, 0.01)
        assert got.counts == tuple(counts)
        assert got.prediction == prediction
        assert got.radius == pytest.approx(radius, abs=1e-9)
        assert got.p_lower == pytest.approx(lower, abs=1e-9)
        assert (got.n0, got.n, got.sigma, got.alpha) == (40, 300, 0.5, 0.01)
        assert bare(got) == certify_counts(selection, counts, 0.5, 0.01, tau=tau)
        spread += sum(c > 0 for c in counts)
    assert spread > 6  # votes split, or equality would say little


@pytest.mark.parametrize("noise", ["lattice", "float"])
def test_counts_follow_the_reference_on_fresh_noise(noise: NoiseChoice) -> None:
    model, x, n = tiny(), images(2), 1500
    generator = torch.Generator().manual_seed(SHIFT)
    certificates = smoothed(model).certify_batch(x, 0.5, n0=10, n=n, batch_size=256, noise=noise, seed=11 + SHIFT)
    for image, got in zip(x, certificates, strict=True):
        counts = sample_under_noise(model, image, n, fresh_noise(noise, 0.5, SHAPE, generator), MEAN, STD, CLASSES)
        for ours, theirs in zip(got.counts, counts, strict=True):
            pooled = (ours + theirs) / (2 * n)
            z = (ours - theirs) / math.sqrt(max(2 * n * pooled * (1 - pooled), 1e-12))
            assert abs(z) < norm.isf(1e-6 / 8 / 2)


def test_predict_equals_the_reference() -> None:
    model, x = tiny(), images(4)
    got = [smoothed(model).predict(image, 0.5, n=100, alpha=0.05, seed=3, index=i) for i, image in enumerate(x)]
    want = [
        reference_predict(
            sample_under_noise(
                model, image, 100, stream_noise("lattice", 0.5, 3, i, PREDICTION, SHAPE), MEAN, STD, CLASSES
            ),
            0.05,
        )
        for i, image in enumerate(x)
    ]
    assert got == want


def test_batch_size_changes_nothing() -> None:
    classifier, x = smoothed(), images(3)
    runs = [classifier.certify_batch(x, 0.5, n0=33, n=200, batch_size=size, seed=1) for size in (1, 7, 64, 1000)]
    assert all(run == runs[0] for run in runs)


def test_certify_batch_is_certify() -> None:
    classifier, x = smoothed(), images(4)
    together = classifier.certify_batch(x, 0.5, n0=20, n=150, batch_size=50, seed=1)
    alone = [classifier.certify(image, 0.5, n0=20, n=150, batch_size=50, seed=1, index=i) for i, image in enumerate(x)]
    assert together == alone


def test_order_and_shards_change_nothing() -> None:
    classifier, x = smoothed(), images(6)
    options = {"n0": 20, "n": 150, "batch_size": 64, "seed": 1}
    whole = classifier.certify_batch(x, 0.5, **options)
    order = [3, 0, 5, 1, 4, 2]
    shuffled = classifier.certify_batch(x[order], 0.5, indices=order, **options)
    assert [shuffled[order.index(i)] for i in range(6)] == whole
    for shards in (2, 3):
        for k in range(shards):
            mine = list(range(k, 6, shards))
            assert classifier.certify_batch(x[mine], 0.5, indices=mine, **options) == whole[k::shards]


def test_without_a_batch_size_the_votes_are_the_same() -> None:
    classifier, x = smoothed(), images(3)
    options = {"n0": 40, "n": 300, "seed": 1}
    assert classifier.certify_batch(x, 0.5, **options) == classifier.certify_batch(x, 0.5, batch_size=64, **options)
    assert classifier.predict(x[0], 0.5, n=300, seed=1) == classifier.predict(x[0], 0.5, n=300, seed=1, batch_size=32)
    assert torch.equal(classifier.classify(x), classifier.classify(x, batch_size=2))


def test_the_suited_batch_follows_the_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    classifier = smoothed(nn.Sequential(nn.Conv2d(3, 64, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    full = classifier.suited_batch_size((3, 32, 32))
    classifier.model.bfloat16()
    assert classifier.suited_batch_size((3, 32, 32)) == 2 * full


def test_noise_drawn_on_several_threads_is_that_of_the_stream() -> None:
    rows: list[Tensor] = []

    def look(x: Tensor) -> Tensor:
        rows.append(x.clone())
        return x.flatten(1)[:, :2]

    flat = SmoothedClassifier(scripted(look), mean=(0, 0, 0), std=(1, 1, 1))
    flat.certify(torch.zeros(SHAPE), 1.0, n0=32, n=480, batch_size=512, noise="float", seed=3)
    want = [
        z
        for purpose, n in ((SELECTION, 32), (ESTIMATION, 480))
        for z, _ in zip(stream_noise("float", 1.0, 3, 0, purpose, SHAPE), range(n), strict=False)
    ]
    got = {row.numpy().tobytes() for row in torch.cat(rows)}
    assert {z.numpy().tobytes() for z in want} <= got


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_process_draws_with_threads_of_its_own() -> None:
    draw = (7, 0, make_noise("lattice", 0.25), SHAPE, torch.device("cpu"), ESTIMATION, 0)
    want = copies.draw(*draw).result()
    child = os.fork()
    if child == 0:  # nothing but the drawing: torch's own threads do not survive a fork either
        try:
            same = np.array_equal(copies.draw(*draw).result(timeout=20).numpy(), want.numpy())
        except BaseException:
            same = False
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_error_while_drawing_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: NoiseStream, k: int) -> Tensor:
        raise MemoryError("no room for noise")

    monkeypatch.setattr(NoiseStream, "block", full)
    with pytest.raises(MemoryError, match="no room for noise"):
        smoothed().certify(images(1)[0], 0.5, n0=10, n=50, seed=1)


def test_a_compiled_network_is_certified_as_a_module() -> None:
    model, x = tiny(), images(2)
    options = {"n0": 40, "n": 300, "seed": 1}
    compiled = torch.compile(model, dynamic=False, backend="eager")
    assert smoothed(compiled).certify_batch(x, 0.5, **options) == smoothed(model).certify_batch(x, 0.5, **options)
    assert not hasattr(model, "training") or not model.training


@pytest.mark.full
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for the CPU takes a C++ compiler")
def test_fused_kernels_cast_the_votes_of_single_ones() -> None:
    model, x = tiny(), images(2)
    options = {"n0": 40, "n": 300, "seed": 1, "batch_size": 128}
    fused = smoothed(torch.compile(model, dynamic=False)).certify_batch(x, 0.5, **options)
    for one, two in zip(fused, smoothed(model).certify_batch(x, 0.5, **options), strict=True):
        assert sum(abs(a - b) for a, b in zip(one.counts, two.counts, strict=True)) <= 2
        assert one.prediction == two.prediction


def test_more_samples_continue_the_same_votes() -> None:
    # Sample k is the same whatever n is: votes of a longer run contain those of a shorter one.
    classifier, x = smoothed(), images(1)[0]
    few, many = (classifier.certify(x, 0.5, n0=10, n=n, seed=1).counts for n in (100, 300))
    assert all(a <= b for a, b in zip(few, many, strict=True))
    assert sum(many) == 300


def seen_by_network(**options: object) -> Tensor:
    """All that the network is given, one row a sample; batches of full size, so that nothing is padded."""
    rows: list[Tensor] = []

    def look(x: Tensor) -> Tensor:
        rows.append(x.clone())
        return torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], 1)

    model = scripted(look)
    SmoothedClassifier(model, mean=MEAN, std=STD).certify(images(1)[0], 0.5, n0=32, n=64, batch_size=32, **options)
    tried, votes = [len(batch) for batch in rows], [batch for batch in rows if len(batch) == 32]
    assert tried[:3] == [2, 2, 1]  # how the network takes images
    # Fixed images, then a first batch that is tried, and once again at the end.
    assert tried[3:] == [8, 8, 32, 32, 1, 32, 32, 8]
    return torch.cat([votes[0], *votes[2:]])


def test_noise_is_added_before_normalisation_and_not_clipped() -> None:
    x = images(1)[0]
    rows = seen_by_network(seed=1)
    pixels = rows * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    noise = pixels - x
    assert len(rows) == 96
    want = torch.stack(
        [z for z, _ in zip(stream_noise("lattice", 0.5, 1, 0, SELECTION, SHAPE), range(32), strict=False)]
    )
    assert torch.allclose(noise[:32], want.float(), atol=1e-5)
    for channel in range(3):
        assert float(noise[:, channel].std()) == pytest.approx(0.5, abs=0.025)
    assert pixels.max() > 1.5
    assert pixels.min() < -0.5


def test_no_sample_is_seen_twice() -> None:
    rows = seen_by_network(seed=1)
    assert len({row.numpy().tobytes() for row in rows}) == len(rows)


def test_index_and_seed_give_other_noise() -> None:
    base = seen_by_network(seed=1, index=0)
    assert torch.equal(base, seen_by_network(seed=1, index=0))
    assert not torch.isclose(base, seen_by_network(seed=1, index=1)).flatten(1).all(1).any()
    assert not torch.isclose(base, seen_by_network(seed=2, index=0)).flatten(1).all(1).any()


def test_without_seed_the_noise_is_fresh() -> None:
    assert not torch.equal(seen_by_network(), seen_by_network())
    torch.manual_seed(0)
    one = seen_by_network()
    torch.manual_seed(0)
    assert not torch.equal(one, seen_by_network())


def test_equal_images_at_two_indices_get_noise_of_their_own() -> None:
    x = images(1).expand(2, -1, -1, -1)
    one, two = smoothed().certify_batch(x, 0.5, n0=10, n=500, seed=1)
    assert one.counts != two.counts


def test_memory_is_that_of_one_batch() -> None:
    sizes: list[int] = []

    def look(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return x.flatten(1)[:, :2]

    SmoothedClassifier(scripted(look), mean=MEAN, std=STD).certify_batch(
        images(3), 0.5, n0=10, n=90, batch_size=64, seed=1
    )
    # 300 samples of three images fill five batches, the last one padded; one more tries whether rows interact.
    assert sizes.count(64) == 6
    assert set(sizes) == {1, 2, 8, 64}


def test_padding_casts_no_vote() -> None:
    # A model that knows padding (all pixels 0) from noise: padded rows would all vote for class 1.
    def padded(x: Tensor) -> Tensor:
        empty = (x.flatten(1).abs().sum(1) == 0).float()
        return torch.stack([torch.full_like(empty, 0.5), empty], 1)

    model = SmoothedClassifier(scripted(padded), mean=(0, 0, 0), std=(1, 1, 1))
    got = model.certify_batch(images(2), 0.5, n0=5, n=45, batch_size=64, seed=1)
    assert [c.counts for c in got] == [(45, 0)] * 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_network_of_another_type(dtype: torch.dtype) -> None:
    x = images(3)
    full = smoothed().certify_batch(x, 0.5, n0=20, n=300, seed=1)
    other = smoothed(tiny().to(dtype)).certify_batch(x, 0.5, n0=20, n=300, seed=1)
    for one, two in zip(full, other, strict=True):
        # Noise and pixels are float32 for both, so that few votes move.
        assert sum(abs(a - b) for a, b in zip(one.counts, two.counts, strict=True)) <= 30
    assert smoothed(tiny().to(dtype)).classify(x).dtype == torch.int64


@pytest.mark.parametrize(
    ("dtype", "noise"), [(torch.float64, "lattice"), (torch.float64, "float"), (torch.float16, "float")]
)
def test_images_of_another_type(dtype: torch.dtype, noise: NoiseChoice) -> None:
    x, options = images(2).to(dtype), {"n0": 10, "n": 50, "seed": 1, "noise": noise}
    assert smoothed().certify_batch(x, 0.5, **options) == smoothed().certify_batch(x.float(), 0.5, **options)


def test_mode_is_restored_and_eval_used() -> None:
    model = tiny()
    classifier, x = smoothed(model), images(2)
    want = classifier.certify_batch(x, 0.5, n0=10, n=100, seed=1), classifier.classify(x).tolist()
    model.train()
    model[1].eval()  # modes may differ between modules
    before = [m.training for m in model.modules()]
    got = classifier.certify_batch(x, 0.5, n0=10, n=100, seed=1), classifier.classify(x).tolist()
    assert got == want
    assert [m.training for m in model.modules()] == before == [True, True, False, True, True, True, True]
    classifier.predict(x[0], 0.5, n=20, seed=1)
    assert [m.training for m in model.modules()] == before


def test_mode_is_restored_after_an_error_and_nothing_learns() -> None:
    model = tiny().train()
    with torch.no_grad():
        model[-1].bias[0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        smoothed(model).classify(images(1))
    assert all(m.training for m in model.modules())
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten()).train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    smoothed(model).certify(images(1)[0], 0.5, n0=10, n=50, seed=1)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_input_is_left_alone() -> None:
    x = images(2)
    copy = x.clone()
    smoothed().certify_batch(x, 0.5, n0=10, n=50, seed=1)
    assert torch.equal(x, copy)


def test_timm_model_brings_its_mean_and_std() -> None:
    model = timm.create_model("test_resnet", num_classes=5)
    classifier = SmoothedClassifier(model)
    assert classifier.mean == tuple(model.pretrained_cfg["mean"])
    assert classifier.std == tuple(model.pretrained_cfg["std"])
    got = classifier.certify(torch.randint(0, 256, (3, 32, 32)) / 255, 0.25, n0=5, n=20, seed=0)
    assert len(got.counts) == 5


def test_classify_is_the_base_classifier() -> None:
    model, x = tiny(), images(5)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    with torch.no_grad():
        want = model((x - mean) / std).argmax(1)
    assert torch.equal(smoothed(model).classify(x, batch_size=2), want)


def test_runner_up_bound_is_passed_on() -> None:
    x = images(1)[0]
    got = smoothed().certify(x, 0.5, n0=20, n=300, seed=1, bound="runner_up")
    plain = smoothed().certify(x, 0.5, n0=20, n=300, seed=1)
    assert got.bound == "runner_up"
    assert got.counts == plain.counts
    assert bare(got) == certify_counts(
        np.eye(CLASSES, dtype=int)[got.counts.index(got.count)] * 20, got.counts, 0.5, bound="runner_up", tau=TAU
    )
    assert replace(plain, bound="runner_up", p_lower=got.p_lower) != plain


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_cuda(dtype: torch.dtype) -> None:
    classifier, x = smoothed(tiny().to("cuda", dtype)), images(2)
    one, two = (classifier.certify_batch(x, 0.5, n0=20, n=2000, batch_size=256, seed=1) for _ in range(2))
    assert one == two
    cpu = smoothed().certify_batch(x, 0.5, n0=20, n=2000, seed=1)
    for a, b in zip(one, cpu, strict=True):
        assert max(abs(i - j) for i, j in zip(a.counts, b.counts, strict=True)) < 250


# Errors.


def test_no_module() -> None:
    with pytest.raises(TypeError, match="expected a torch module as base classifier, got function"):
        SmoothedClassifier(lambda x: x)  # type: ignore[arg-type]


def test_model_without_classifier() -> None:
    with pytest.raises(
        ValueError, match=r"this model has no classifier \(num_classes=0\): fine-tune it, or call reset_classifier"
    ):
        SmoothedClassifier(timm.create_model("test_resnet", num_classes=0))


def test_model_without_mean_and_std() -> None:
    with pytest.raises(ValueError, match="expected mean and std: this model has no pretrained_cfg"):
        SmoothedClassifier(tiny())


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (lambda x: x, r"\(.*8, 8\)"),
        (lambda x: x.flatten(1)[:, :1], r"\(.*, 1\)"),
        (lambda x: [x], "list"),
        (lambda x: x.flatten(1)[:, 0], r"\(.*,\)"),
    ],
)
def test_output_that_is_no_logits(function: object, got: str) -> None:
    classifier = SmoothedClassifier(scripted(function), mean=MEAN, std=STD)
    words = rf"expected logits \(B, K\) of at least 2 classes from the model, got {got}: is it a classifier\?"
    with pytest.raises(ValueError, match=words):
        classifier.certify(images(1)[0], 0.5, n0=10, n=20)
    with pytest.raises(ValueError, match=words):
        classifier.classify(images(1))


def test_nan_logits() -> None:
    calls = 0

    def late(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        logits = x.flatten(1)[:, :3].clone()
        if calls == 10:
            logits[1, 2] = torch.nan
        return logits

    classifier = SmoothedClassifier(scripted(late), mean=MEAN, std=STD)
    words = "the model returned NaN logits, which are no vote: check its weights and input type"
    with pytest.raises(ValueError, match=words):
        classifier.certify(images(1)[0], 0.5, n0=10, n=90, batch_size=20)
    always = SmoothedClassifier(scripted(lambda x: x.flatten(1) * torch.nan), mean=MEAN, std=STD)
    for call in (lambda: always.predict(images(1)[0], 0.5, n=20), lambda: always.classify(images(1))):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (8, 8), (3,)])
def test_one_image_has_three_dimensions(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"expected one image \(C, H, W\), got shape \(.*\): use certify_batch for several"
    ):
        smoothed().certify(torch.zeros(shape), 0.5)
    with pytest.raises(ValueError, match=r"expected one image \(C, H, W\), got shape \("):
        smoothed().predict(torch.zeros(shape), 0.5)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 2, 3, 8, 8)])
def test_a_batch_has_four_dimensions(shape: tuple[int, ...]) -> None:
    for call in (
        lambda: smoothed().certify_batch(torch.zeros(shape), 0.5),
        lambda: smoothed().classify(torch.zeros(shape)),
    ):
        with pytest.raises(ValueError, match=r"expected images \(B, C, H, W\), got shape \("):
            call()


def test_wrong_channels() -> None:
    for call in (
        lambda: smoothed().certify(torch.zeros(1, 8, 8), 0.5),
        lambda: smoothed().classify(torch.zeros(2, 1, 8, 8)),
    ):
        with pytest.raises(ValueError, match="expected images of 3 channels, as mean and std have, got 1"):
            call()


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (torch.full(SHAPE, 2.0), ValueError, r"expected pixels in \[0, 1\], got values from 2 to 2"),
        (torch.full(SHAPE, torch.nan), ValueError, "got NaN"),
        (torch.zeros(SHAPE, dtype=torch.int64), TypeError, "divide integers 0..255 by 255"),
        (np.zeros(SHAPE, dtype=np.int64), TypeError, "expected pixels of uint8, or floats"),
    ],
)
def test_bad_pixels(x: object, error: type[Exception], words: str) -> None:
    for call in (lambda: smoothed().certify(x, 0.5), lambda: smoothed().predict(x, 0.5)):
        with pytest.raises(error, match=words):
            call()
    for call in (lambda: smoothed().certify_batch(x[None], 0.5), lambda: smoothed().classify(x[None])):  # type: ignore[index]
        with pytest.raises(error, match=words):
            call()


def test_no_images() -> None:
    for call in (lambda x: smoothed().certify_batch(x, 0.5), lambda x: smoothed().classify(x)):
        with pytest.raises(ValueError, match=r"expected an image, got an empty tensor of shape \(0, 3, 8, 8\)"):
            call(torch.zeros(0, *SHAPE))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigma": 0.0}, "expected a finite sigma > 0"),
        ({"sigma": -1.0}, "expected a finite sigma > 0"),
        ({"sigma": math.nan}, "expected a finite sigma > 0"),
        ({"sigma": math.inf}, "expected a finite sigma > 0"),
        ({"alpha": 0.0}, r"expected alpha in \(0, 1\)"),
        ({"alpha": 1.0}, r"expected alpha in \(0, 1\)"),
        ({"n": 9}, "expected n >= 10: at alpha=0.001 even 9 unanimous votes certify nothing, got n=9"),
        ({"n0": 0}, "expected n0 to be a whole number, at least 1, got 0"),
        ({"batch_size": 0}, "expected batch_size to be a whole number, at least 1, got 0"),
        ({"batch_size": 2.5}, "expected batch_size to be a whole number, at least 1, got 2.5"),
        ({"bound": "best"}, "expected bound to be one of"),
    ],
)
def test_options_outside_their_range(options: dict[str, object], words: str) -> None:
    x = images(1)
    options = {"sigma": 0.5, **options}
    with pytest.raises(ValueError, match=words):
        smoothed().certify(x[0], **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=words):
        smoothed().certify_batch(x, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 10}, "expected n >= 11: at alpha=0.001 fewer votes always abstain, got n=10"),
        ({"n": 4, "alpha": 0.05}, "expected n >= 6: at alpha=0.05 fewer votes always abstain, got n=4"),
        ({"alpha": 2.0}, r"expected alpha in \(0, 1\)"),
        ({"sigma": 0.0}, "expected a finite sigma > 0"),
        ({"batch_size": 0}, "expected batch_size to be a whole number"),
    ],
)
def test_predict_options_outside_their_range(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        smoothed().predict(images(1)[0], **{"sigma": 0.5, **options})  # type: ignore[arg-type]


def test_predict_can_decide_at_the_smallest_n() -> None:
    always = SmoothedClassifier(scripted(lambda x: x.new_tensor([0.0, 1.0]).expand(len(x), 2)), mean=MEAN, std=STD)
    assert always.predict(images(1)[0], 0.5, n=11, seed=0) == 1
    assert always.predict(images(1)[0], 0.5, n=6, alpha=0.05, seed=0) == 1


@pytest.mark.parametrize("indices", [[0], [0, 0], [0, 1, 2]])
def test_indices_that_do_not_fit(indices: list[int]) -> None:
    with pytest.raises(ValueError, match=r"expected 2 different indices, one an image, got \["):
        smoothed().certify_batch(images(2), 0.5, indices=indices)


def test_pixels_are_checked_once_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each check waits for the device.
    checked: list[tuple[int, ...]] = []
    monkeypatch.setattr(inputs, "check_pixels", lambda x: (checked.append(tuple(x.shape)), x)[1])
    classifier, x = smoothed(), images(3)
    classifier.certify(x[0], 0.5, n0=5, n=20)
    classifier.predict(x[0], 0.5, n=20)
    assert checked == [SHAPE] * 2
    checked.clear()
    classifier.certify_batch(x, 0.5, n0=5, n=20)
    classifier.classify(x)
    assert checked == [(3, *SHAPE)] * 2
    checked.clear()
    list(classifier.certify_each(enumerate(x), 0.5, sequential_plan((0.1,), 100)))
    assert checked == [SHAPE] * 3


def test_a_stream_of_images_is_checked_one_by_one() -> None:
    plan, bad = sequential_plan((0.1,), 100), [torch.full(SHAPE, 2.0), torch.zeros(1, *SHAPE), torch.zeros(1, 8, 8)]
    for x, words in zip(
        bad, ("values from 2 to 2", "expected one image", "expected images of 3 channels"), strict=True
    ):
        for stream in ([(0, x)], [(0, images(1)[0]), (1, x)]):
            with pytest.raises(ValueError, match=words):
                list(smoothed().certify_each(stream, 0.5, plan))
    with pytest.raises(ValueError, match="expected batch_size to be a whole number"):
        list(smoothed().certify_each([], 0.5, plan, batch_size=0))
    assert list(smoothed().certify_each([], 0.5, plan)) == []


RADII_OPTIONS: dict[str, object] = {"radii": (0.0, 0.1, 0.2, 0.4), "n": 1000, "alpha": 0.01, "seed": 1}


def test_sequential_certificates_are_those_of_the_course_on_the_streams_votes() -> None:
    model, x, plan = tiny(), images(4), sequential_plan((0.0, 0.1, 0.2, 0.4), 1000, 0.01)
    certificates = smoothed(model).certify_batch(x, 0.4, **RADII_OPTIONS)
    assert len({certificate.n for certificate in certificates}) > 1
    for i, (image, got) in enumerate(zip(x, certificates, strict=True)):
        course, counts, seen = plan.course(0.4, TAU), [0] * CLASSES, 0
        noise = stream_noise("lattice", 0.4, 1, i, ESTIMATION, SHAPE)
        (look,) = next(course)
        with pytest.raises(StopIteration) as end:
            while True:
                more = sample_under_noise(model, image, look.upto - seen, noise, MEAN, STD, CLASSES)
                counts, seen = [a + b for a, b in zip(counts, more, strict=True)], look.upto
                (look,) = course.send([np.array(counts)])
        assert bare(got) == end.value.value


def test_sequential_certificates_depend_on_seed_and_image_alone() -> None:
    classifier, x = smoothed(), images(40)
    whole = classifier.certify_batch(x, 0.4, **RADII_OPTIONS)
    assert {certificate.plan for certificate in whole} == {"sequential"}
    assert len({certificate.radius for certificate in whole}) > 1
    for size in (1, 33, 64, 4096):
        some = 3 if size == 1 else 40
        assert classifier.certify_batch(x[:some], 0.4, batch_size=size, **RADII_OPTIONS) == whole[:some]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = classifier.certify_batch(x[order], 0.4, indices=order, **RADII_OPTIONS)
    assert [shuffled[order.index(i)] for i in range(40)] == whole
    assert classifier.certify(x[7], 0.4, index=7, **RADII_OPTIONS) == whole[7]
    plan = sequential_plan((0.0, 0.1, 0.2, 0.4), 1000, 0.01)
    each = {i: c for i, c, _ in classifier.certify_each(enumerate(x), 0.4, plan, batch_size=64, seed=1)}
    assert [each[i] for i in range(40)] == whole


def test_images_are_asked_for_as_batches_need_them() -> None:
    asked: list[int] = []

    def source() -> Iterator[tuple[int, Tensor]]:
        for i, image in enumerate(images(200)):
            asked.append(i)
            yield i, image

    plan = sequential_plan((0.1,), 1000, 0.01)
    certificates = smoothed().certify_each(source(), 0.4, plan, batch_size=64, seed=1)
    first = next(certificates)
    assert len(asked) < 20
    rest = list(certificates)
    assert sorted([first[0], *(i for i, _, _ in rest)]) == list(range(200))
    assert all(seconds > 0 for _, _, seconds in rest)


def test_batches_are_full_of_samples_that_are_wanted() -> None:
    # Forty images share batches: hardly a sample is computed that no certificate rests on.
    sizes: list[int] = []
    model = tiny()
    model.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    certificates = smoothed(model).certify_batch(images(40), 0.4, batch_size=64, **RADII_OPTIONS)
    used = sum(certificate.samples for certificate in certificates)
    batches = [size for size in sizes if size == 64]
    assert sorted(set(sizes)) == [1, 2, 8, 64]
    assert used <= sum(batches) < 1.15 * used


def test_reading_votes_late_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on an accelerator: batches are made up before the votes of the last ones are known.
    classifier, x = smoothed(), images(12)
    on_time = classifier.certify_batch(x, 0.4, batch_size=64, **RADII_OPTIONS)
    fixed = classifier.certify_batch(x, 0.4, n=90, seed=1, batch_size=64)
    for depth in (1, 3):
        monkeypatch.setattr(Sampler, "_depth", depth)
        assert classifier.certify_batch(x, 0.4, batch_size=64, **RADII_OPTIONS) == on_time
        assert classifier.certify_batch(x[:1], 0.4, batch_size=64, **RADII_OPTIONS) == on_time[:1]
        assert classifier.certify_batch(x, 0.4, n=90, seed=1, batch_size=64) == fixed


def test_an_image_alone_draws_ahead_and_is_given_the_same() -> None:
    sizes: list[int] = []
    model, x = tiny(), images(1)[0]
    model.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    certificate = smoothed(model).certify(x, 0.4, batch_size=200, **RADII_OPTIONS)
    assert sizes.count(200) == math.ceil(certificate.n / 200) + 1  # one tries whether rows interact
    assert certificate == smoothed(tiny()).certify(x, 0.4, batch_size=32, **RADII_OPTIONS)


def test_plans_and_arguments_that_contradict() -> None:
    classifier, x, plan = smoothed(), images(1)[0], sequential_plan((0.1,), 1000, 0.01)
    assert classifier.certify(x, 0.4, plan=plan, seed=1).plan == "sequential"
    with pytest.raises(ValueError, match=r"expected alpha as the plan has it, 0.01, got 0.001: leave it out"):
        classifier.certify(x, 0.4, plan=plan, alpha=0.001)
    with pytest.raises(ValueError, match="expected increasing finite radii"):
        classifier.certify(x, 0.4, radii=(0.5, 0.25))
    with pytest.raises(ValueError, match=r"expected n >= \d+: .* never certify the radius 2.0"):
        classifier.certify(x, 0.4, radii=(2.0,), n=1000)


def test_a_radius_plan_through_the_network() -> None:
    certificate = smoothed().certify(images(1)[0], 0.4, plan=radius_plan(0.05, n=2000, alpha=0.01), seed=1)
    assert certificate.plan == "radius"
    assert certificate.n0 >= 64


def test_nan_is_an_error_for_sequential_plans_too() -> None:
    broken = scripted(lambda x: x.flatten(1)[:, :2] * float("nan"))
    with pytest.raises(ValueError, match="NaN logits"):
        SmoothedClassifier(broken, mean=MEAN, std=STD).certify(images(1)[0], 0.4, **RADII_OPTIONS)


def test_several_sigmas_hold_together() -> None:
    model, x = tiny(), images(1)[0]
    joint = smoothed(model).certify_sigmas(x, (0.5, 0.25), n0=40, n=300, alpha=0.01, batch_size=64, seed=7, index=4)
    votes = {
        sigma: [
            np.array(
                sample_under_noise(
                    model, x, num, stream_noise("lattice", sigma, 7, 4, purpose, SHAPE), MEAN, STD, CLASSES
                )
            )
            for purpose, num in ((SELECTION, 40), (ESTIMATION, 300))
        ]
        for sigma in (0.25, 0.5)
    }
    want = composite({s: v[0] for s, v in votes.items()}, {s: v[1] for s, v in votes.items()}, 0.01, TAU)
    assert (joint.prediction, joint.radius, joint.alpha) == (want.prediction, want.radius, 0.01)
    assert [bare(certificate) for certificate in joint.certificates] == list(want.certificates)
    assert joint.sigmas == (0.25, 0.5)
    assert {certificate.alpha for certificate in joint.certificates} == {0.005}
    assert {(certificate.seed, certificate.noise) for certificate in joint.certificates} == {(7, "lattice255")}
    assert votes[0.25][1].tolist() != votes[0.5][1].tolist()


@pytest.mark.parametrize(
    ("sigmas", "words"),
    [
        ((), r"expected different sigmas, at least one, got \[\]"),
        ((0.5, 0.5), r"expected different sigmas, at least one, got \[0.5, 0.5\]"),
        ((0.5, -1.0), "expected different finite sigmas > 0, at least one, got -1.0"),
    ],
)
def test_several_sigmas_that_are_none(sigmas: tuple[float, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        smoothed().certify_sigmas(images(1)[0], sigmas, n=300)


@pytest.mark.parametrize("seed", [-1, 2**63, 2.5, True, "0"])
def test_seeds_that_are_none(seed: object) -> None:
    for call in (
        lambda: smoothed().certify(images(1)[0], 0.5, n=50, seed=seed),  # type: ignore[arg-type]
        lambda: smoothed().predict(images(1)[0], 0.5, n=50, seed=seed),  # type: ignore[arg-type]
    ):
        with pytest.raises(
            ValueError, match=r"expected a seed that is a whole number from 0 to 2\^63 - 1, or None, got"
        ):
            call()


def test_a_pixel_off_the_grid_by_rounding_is_that_of_the_image_that_is_certified() -> None:
    x = images(1)[0]
    near = (x.double() + 3e-7 * (x < 0.5)).to(torch.float64)
    one, two = (smoothed().certify(image, 0.5, n=50, seed=1) for image in (x, near))
    assert one == two
    assert one.origin == two.origin


def test_a_certificate_names_its_class_where_the_network_does() -> None:
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(SHAPE), CLASSES)), images(1)[0]
    nn.init.zeros_(model[1].weight)
    nn.init.constant_(model[1].bias[3:], 9.0)
    how = {"n0": 20, "n": 50, "seed": 1}
    plain = smoothed(model).certify(x, 0.25, **how)
    for names, fits in (
        (("a", "b", "c", "<script>"), True),
        (("x" * 201,) * CLASSES, False),
        (("a\n",) * CLASSES, False),
        (("a", "b"), False),
    ):
        note_class_names(model, names)
        named = smoothed(model).certify(x, 0.25, **how)
        assert named.class_name == (names[plain.prediction] if fits else None)
        assert replace(named, class_name=None) == plain and Certificate.from_json(named.to_json()) == named
    note_class_names(model, ("a", "b", "c", "d"))
    joint = smoothed(model).certify_sigmas(x, [0.25, 0.5], **how)
    assert [one.class_name for one in joint.certificates] == ["d", "d"]
