"""Any torch module: exported, scripted, traced, quantised, wrapped, of any channels, certified as what it computes."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_hub.certification.evaluate import certify
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.images.data import ImageData, load_data

SHAPE = (3, 8, 8)
OPTIONS: dict[str, Any] = {"sigma": 0.25, "n0": 10, "n": 60, "seed": 1}
PIXELS: dict[str, Any] = {"mean": 0.5, "std": 0.25}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def ten() -> ImageData:
    return load_data("digits", "test").subset(range(100))


class View(nn.Module):
    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(192, 4)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.view(len(x), -1))
        return logits + self.bias * torch.arange(4)


class Within(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits


class Quantised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant, self.plain, self.dequant = (
            torch.ao.quantization.QuantStub(),
            network(),
            torch.ao.quantization.DeQuantStub(),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.dequant(self.plain(self.quant(x)))
        return logits


def network() -> nn.Sequential:
    torch.manual_seed(3)
    layers = (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, 4))
    return nn.Sequential(*layers)


def exported(batch: bool = True) -> nn.Module:
    shapes = ({0: torch.export.Dim("batch")},) if batch else None
    return torch.export.export(network().eval(), (torch.rand(2, *SHAPE),), dynamic_shapes=shapes).module()


def quantised() -> nn.Module:
    engines = torch.backends.quantized.supported_engines
    torch.backends.quantized.engine = engine = next(e for e in ("x86", "fbgemm", "qnnpack") if e in engines)
    model: Any = Quantised().eval()
    model.qconfig = torch.ao.quantization.get_default_qconfig(engine)
    torch.ao.quantization.prepare(model, inplace=True)
    model(torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(0)))
    return torch.ao.quantization.convert(model)  # type: ignore[no-any-return]


FORMS: dict[str, Callable[[], nn.Module]] = {
    "exported": exported,
    "exported, in a wrapper": lambda: Within(exported()),
    "exported, then traced": lambda: torch.jit.trace(exported(), torch.rand(2, *SHAPE), check_trace=False),
    "scripted": lambda: torch.jit.script(network()),
    "scripted, in a Sequential": lambda: nn.Sequential(nn.Identity(), torch.jit.script(network().eval())),
    "frozen": lambda: torch.jit.freeze(torch.jit.script(network().eval())),
    "traced": lambda: torch.jit.trace(network().eval(), torch.rand(2, *SHAPE)),
    "symbolically traced": lambda: torch.fx.symbolic_trace(network()),
    "data parallel": lambda: nn.DataParallel(network()),
}


def images(count: int = 3, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(9)) / 255


def smoothed(model: nn.Module) -> SmoothedClassifier:
    return SmoothedClassifier(model, **PIXELS)


def counts(model: nn.Module) -> list[tuple[int, ...]]:
    return [certificate.counts for certificate in smoothed(model).certify_batch(images(), **OPTIONS)]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_network_is_certified_as_the_network(form: str) -> None:
    model = FORMS[form]()
    assert counts(model) == counts(network())
    assert torch.equal(smoothed(model).classify(images()), smoothed(network()).classify(images()))


@pytest.mark.parametrize("form", ["exported", "scripted"])
def test_the_suited_batch_of_a_form_follows_its_activations(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robust_hub.certification.batches.CACHED", 8 * 6 * 6 * 4 * 64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert smoothed(FORMS[form]()).suited_batch_size(SHAPE) == smoothed(network()).suited_batch_size(SHAPE) == 64


def test_modes_of_what_has_none_come_back() -> None:
    model = nn.Sequential(exported(), nn.Dropout())
    with pytest.raises(NotImplementedError):
        model.eval()
    model.training = True
    smoothed(model).classify(images())
    assert all(module.training for module in model.modules())


def test_an_export_of_one_size_of_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a network for any number of images, .*dynamic_shapes"):
        smoothed(exported(batch=False)).classify(images())


def test_a_module_that_views_is_right_everywhere(ten: ImageData, tmp_path: Path) -> None:
    model = View()
    inputs = (images() - 0.5) / 0.25
    assert torch.equal(smoothed(model).classify(images()), model(inputs).argmax(1))
    same = nn.Sequential(nn.Flatten(), model.linear)
    assert counts(model) == counts(same)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = wide[1]

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(x.view(len(x), -1))
            return logits

    options: dict[str, Any] = {"sigma": 0.25, "n0": 10, "n": 60, "every": 40, "seed": 1, "progress": False, **PIXELS}
    runs = [certify(m, ten, out=tmp_path / str(k), **options) for k, m in enumerate((Wide(), wide))]
    assert [r.counts for r in runs[0].records] == [r.counts for r in runs[1].records]
    assert [r.base for r in runs[0].records] == [r.base for r in runs[1].records]
    assert runs[0].identity["memory_format"] == "contiguous" and "memory_format" not in runs[1].identity


def test_the_way_to_call_is_tried_once() -> None:
    formats: list[bool] = []

    def look(module: nn.Module, inputs: tuple[Tensor]) -> None:
        formats.append(inputs[0].is_contiguous())

    model = View()
    model.register_forward_pre_hook(look)
    smoothed(model).certify(images()[0], **OPTIONS)
    assert formats.count(False) == 1


def test_modules_without_parameters_are_told_apart(ten: ImageData, tmp_path: Path) -> None:
    # Modules without parameters have equal weights hashes: their logits tell them apart.
    class Bright(nn.Module):
        def __init__(self, sign: float) -> None:
            super().__init__()
            self.sign = sign

        def forward(self, x: Tensor) -> Tensor:
            mean = self.sign * x.mean((1, 2, 3))
            return torch.stack([mean, -mean, *[mean * 0 - 9] * 8], 1)

    options: dict[str, Any] = {"sigma": 0.25, "n0": 10, "n": 60, "every": 60, "seed": 1, "progress": False, **PIXELS}
    certify(Bright(1.0), ten, out=tmp_path / "run", **options)
    with pytest.raises(ValueError, match="logits"):
        certify(Bright(-1.0), ten, out=tmp_path / "run", **options)


def test_quantised_networks() -> None:
    model = quantised()
    inputs = (images() - 0.5) / 0.25
    assert torch.equal(smoothed(model).classify(images()), model(inputs).argmax(1))
    certificate = smoothed(model).certify(images()[0], **OPTIONS)
    assert (
        certificate.origin is not None
        and certificate.origin.weights != smoothed(network()).certify(images()[0], **OPTIONS).origin.weights
    )  # type: ignore[union-attr]


def test_scales_of_a_batch_are_refused() -> None:
    dynamic = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), {nn.Linear})
    with pytest.raises(ValueError, match="rows interact, .* dynamic quantisation"):
        smoothed(dynamic).certify(images()[0], **OPTIONS)


def test_eight_bit_weights_first() -> None:
    class Int8(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randint(-9, 9, (4, 192), dtype=torch.int8), requires_grad=False)
            self.scale = nn.Parameter(torch.rand(4, 1) / 100)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x.flatten(1), self.weight.float() * self.scale)

    model = Int8()
    want = nn.Sequential(nn.Flatten(), linear := nn.Linear(192, 4, bias=False))
    linear.weight.data = model.weight.float() * model.scale.detach()
    assert counts(model) == counts(want)


def test_mixed_types_are_judged_by_the_coarsest() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.head = nn.Linear(8, 4)
            self.body = nn.Conv2d(3, 8, 3).bfloat16()

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.body(x).relu().mean((2, 3)).float())
            return logits

    model = Mixed()
    got = smoothed(model).certify_batch(images(20), **OPTIONS)
    assert sum(got[0].counts) == 60
    assert torch.equal(smoothed(model).classify(images()), model(((images() - 0.5) / 0.25).bfloat16()).argmax(1))


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
@pytest.mark.parametrize("noise", ["lattice", "float"])
def test_any_count_of_channels(channels: int, noise: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3))
    x = images(2, (channels, 8, 6))
    one = smoothed(model).certify_batch(x, noise=noise, **OPTIONS)
    many = SmoothedClassifier(model, mean=(0.5,) * channels, std=(0.25,) * channels)
    assert one == many.certify_batch(x, noise=noise, **OPTIONS)
    assert torch.equal(many.classify(x), model((x - 0.5) / 0.25).argmax(1))
    assert one[0].origin is not None and one[0].origin.mean == (0.5,) * channels


def test_meta_and_gradients_and_odd_pixels() -> None:
    with pytest.raises(ValueError, match="expected a network with weights, got 0.weight on the device 'meta'"):
        smoothed(network().to("meta"))
    classifier = smoothed(network())
    x = images()[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = classifier.certify(x.clone().requires_grad_(), **OPTIONS)
    assert got == classifier.certify(x, **OPTIONS)
    odd = (x.to(torch.float8_e4m3fn), "got torch.float8"), (x.to_sparse(), "sparse"), (x.to("meta"), "'meta'")
    for pixels, words in odd:
        with pytest.raises(TypeError, match=f"expected .*{words}"):
            classifier.certify(pixels, **OPTIONS)


def test_a_program_without_a_console(ten: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    run = certify(model, ten, 0.25, out=tmp_path / "run", limit=1, n0=10, n=60, **PIXELS)
    assert len(run.records) == 1


def test_transformers_classifiers() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vit = transformers.ViTForImageClassification(
        transformers.ViTConfig(**small, image_size=8, patch_size=4, num_labels=4)
    )
    x = images()
    want = vit.eval()((x - 0.5) / 0.25).logits.argmax(1)
    assert torch.equal(smoothed(vit).classify(x), want)
    assert sum(smoothed(vit).certify(x[0], **OPTIONS).counts) == 60
    with pytest.raises(ValueError, match="expected mean and std"):
        SmoothedClassifier(vit)
    with pytest.raises(ValueError, match=r"expected a model for images \(3, 12, 12\), got one that fails"):
        smoothed(vit).classify(images(1, (3, 12, 12)))


def test_transformers_wrapper_of_timm_brings_mean_and_std() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.TimmWrapperConfig(architecture="resnet18s_ln", num_labels=4)
    model = transformers.TimmWrapperForImageClassification(config)
    wrapped, plain = SmoothedClassifier(model), SmoothedClassifier(model.timm_model)
    assert wrapped.mean == plain.mean
    certificates = [s.certify(images()[0], **OPTIONS) for s in (wrapped, plain)]
    assert certificates[0].counts == certificates[1].counts
    config.pretrained_cfg = {
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
    }  # the checkpoint's own
    again = SmoothedClassifier(nn.Sequential(transformers.TimmWrapperForImageClassification(config)))
    assert (again.mean, again.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_a_copy_is_as_good_as_the_module() -> None:
    model = torch.jit.script(network())
    assert counts(copy.deepcopy(model)) == counts(model)
