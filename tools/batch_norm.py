"""Take clean fine-tuning of a batch-norm network apart: which part of it costs the robustness?

python tools/batch_norm.py CHECKPOINT DATA OUT.jsonl

From weights pretrained on mixed noise, one clean epoch each: classifier only; classifier only, after the statistics of
batch norm were taken anew from clean images; all weights, with the statistics of pretraining; all weights, with
statistics that follow. Measured as tools/compare_rates.py does,
which says how the lines in docs/evidence were drawn. "shift" is how far noise 0.25 moves the inputs of the
second batch norm from its statistics: mean of (mean - running mean)^2 / running variance over the channels.
tools/make_results.py sets the lines in docs/results.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from compare_rates import IMAGES, SEED, SIGMA, measure
from timm.layers import freeze_batch_norm_2d  # type: ignore[attr-defined]
from torch import nn

from robust_hub import ImageData, NoiseMixture, finetune_clean, load_data, load_model
from robust_hub.images.pixels import mean_std, normalize
from robust_hub.images.set_aside import holdout_split
from robust_hub.models.modes import eval_mode

SECOND = "layer1.0.bn1"
WAYS = {  # statistics, whether the features are trained
    "of pretraining": False,
    "clean": False,
    "of pretraining, frozen": True,
    "following": True,
}


def estimate_again(model: nn.Module, images: ImageData) -> None:
    """Let the statistics of batch norm follow one pass over clean images; weights stay."""
    mean, std = mean_std(model)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    model.train()
    with torch.no_grad():
        for part in torch.split(order, 128):
            model(normalize(images.batch(part)[0].float() / 255, mean, std))


def shift(model: nn.Module, images: ImageData) -> float:
    """Give how far noise moves the inputs of the second batch norm from its statistics."""
    moved: list[float] = []

    def record(layer: Any, inputs: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
        moved.append(((inputs[0].mean((0, 2, 3)) - layer.running_mean) ** 2 / layer.running_var).mean().item())

    x = images.batch(range(len(images)))[0].float() / 255
    handle = model.get_submodule(SECOND).register_forward_hook(record)
    noisy = NoiseMixture((SIGMA,)).add(x, torch.Generator().manual_seed(SEED))
    with eval_mode(model), torch.inference_mode():
        model.float()(normalize(noisy, *mean_std(model)))
    handle.remove()
    return round(moved[0], 2)


def main(checkpoint: str, data: str, out: str) -> None:
    """Run the four ways."""
    images = load_data(data, "train", size=32)
    part, held = holdout_split(images, 0.1, 0)
    held = held.subset(range(IMAGES))
    for statistics, features in WAYS.items():
        model = load_model(checkpoint)
        if statistics == "clean":
            estimate_again(model, part)
        if "frozen" in statistics:
            model = freeze_batch_norm_2d(model)  # type: ignore[no-untyped-call]
        rate: dict[str, Any] = {"learning_rate": 0.001, "head_scale": 300.0} if features else {"learning_rate": 0.3}
        finetune_clean(model, part, head_only=not features, mixed_precision="bf16", progress=False, **rate)
        row: dict[str, Any] = {
            "statistics": statistics,
            "features": "trained" if features else "fixed",
            "images": len(held),
        }
        row |= {**measure(model, held), "shift": shift(model, held)}
        with Path(out).open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
