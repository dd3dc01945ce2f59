"""The classifier of networks that are not timm's: found and replaced, or refused with advice."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from toys import PIXELS, toy_data

from robust_hub.training.finetune import finetune_clean
from robust_hub.training.heads import reset_head
from robust_hub.training.options import Options
from robust_hub.training.train import train

VISION = ["vit_b_16", "squeezenet1_0", "mobilenet_v3_small", "densenet121", "convnext_tiny", "swin_t"]


def body() -> list[nn.Module]:
    return [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]


class Lightning(nn.Module):
    """A wrapper with a loss, as those of Lightning are."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.loss = model, nn.CrossEntropyLoss()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits


@pytest.mark.parametrize("name", VISION)
def test_heads_of_torchvision(name: str) -> None:
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
    head = reset_head(model.eval(), 7, 0)
    assert any(head is module for module in model.modules())
    assert model(torch.zeros(2, 3, 224, 224, device="meta")).shape == (2, 7)


@pytest.mark.parametrize(
    "model",
    [
        nn.DataParallel(nn.Sequential(*body(), nn.Linear(4, 5))),
        Lightning(nn.Sequential(*body(), nn.Linear(4, 5))),
        nn.Sequential(nn.Sequential(*body()), nn.Sequential(nn.Dropout(), nn.Linear(4, 5))),
        nn.Sequential(*body(), nn.Linear(4, 5), nn.Identity()),
        Lightning(timm.create_model("resnet18s_ln", num_classes=5)),
        nn.Sequential(timm.create_model("resnet18s_gn", num_classes=5)),
        nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()),
    ],
    ids=["parallel", "lightning", "two parts", "passive end", "timm within", "fastai", "convolution"],
)
def test_heads_within_wrappers(model: nn.Module) -> None:
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    head = reset_head(model, 7, 0)
    assert model.eval()(torch.rand(2, 3, 8, 8)).shape == (2, 7)
    own = {id(parameter) for parameter in head.parameters()}
    for name, value in model.state_dict(keep_vars=True).items():
        assert id(value) in own or torch.equal(value, kept[name])


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(3, 3), nn.ReLU()),
        nn.Sequential(*body(), nn.Linear(4, 5), nn.BatchNorm1d(5)),
        nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten()),  # 20 logits of five channels
        nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten()),
        nn.Flatten(),
    ],
)
def test_what_is_no_head_is_refused(model: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"expected a model with a classifier .*: add the layer first, such as"):
        reset_head(model, 3, 0)


def test_the_number_of_classes_that_a_model_says_is_the_new_one() -> None:
    model = torchvision.models.squeezenet1_1(weights=None, num_classes=4)
    reset_head(model, 3, 0)
    assert model.num_classes == 3


class Views(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(800, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.nn.functional.conv2d(x, self.body.weight.view(8, 3, 3, 3) * 1.0, self.body.bias)
        logits: Tensor = self.fc(y.relu().view(len(x), -1))
        return logits


class Reshapes(Views):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.body(x).relu().flatten(1))
        return logits


def test_a_module_that_views_trains_as_one_that_reshapes() -> None:
    options = {"epochs": 1, "progress": False, "batch_size": 24, "seed": 1, **PIXELS}
    trained = [
        finetune_clean(model, toy_data(), learning_rate=[0.01, 0.001], holdout=0.3, **options)  # type: ignore[arg-type]
        for model in (Views(), Reshapes())
    ]
    assert trained[0].history[-1]["loss"] == pytest.approx(trained[1].history[-1]["loss"], rel=1e-3)
    assert trained[0].accuracy == trained[1].accuracy


def test_logits_in_an_output_are_trained() -> None:
    class Output(Lightning):
        def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
            return {"logits": self.model(x)}

    results = [
        finetune_clean(wrap(Reshapes()), toy_data(), epochs=1, progress=False, **PIXELS).history[0]["loss"]
        for wrap in (Output, Lightning)
    ]
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Flatten(), "expected a network with parameters to train, got a Flatten without"),
        (
            Reshapes().double(),
            r"expected a model that takes float32 images, got one in torch.float64: call",
        ),
        (Reshapes().to("meta"), "expected a network with weights, got body.weight on the device 'meta'"),
    ],
)
def test_networks_that_cannot_be_trained(model: nn.Module, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        train(model, toy_data(), Options.of(model, epochs=1, **PIXELS))


def test_an_exported_network_is_not_trained() -> None:
    model = torch.export.export(Reshapes(), (torch.rand(2, 3, 12, 12),)).module()
    with pytest.raises(ValueError, match="got one that torch.export made: train the network that it was exported from"):
        train(model, toy_data(), Options.of(model, epochs=1, **PIXELS))
