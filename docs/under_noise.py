"""Measure pretrained networks on held-out images of their own data under each noise, one line a network.

python docs/under_noise.py DATA OUT.jsonl CHECKPOINT...

DATA is the pretraining set with its validation images. Networks run in bfloat16; every network gets the same noise.
docs/make_results.py sets the lines in docs/results.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn

from robust_hub import ImageData, load_data, load_model
from robust_hub.checkpoint import read_config
from robust_hub.models import checkpoint_folder
from robust_hub.pixels import mean_std
from robust_hub.recipes import MIXED

BATCH = 500


def right(model: nn.Module, images: ImageData, sigma: float) -> int:
    """Count the images that a network in bfloat16 classifies rightly under noise; one draw an image."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in mean_std(model, None, None))
    generator, count = torch.Generator().manual_seed(1), 0
    for part in torch.arange(len(images)).split(BATCH):
        pixels, labels = images.batch(part)
        x = pixels.float() / 255
        x = x + sigma * torch.randn(x.shape, generator=generator)
        inputs = ((x - mean) / std).to(torch.bfloat16, memory_format=torch.channels_last)
        count += int((model(inputs).argmax(1) == labels).sum())
    return count


@torch.inference_mode()
def main(data: str, out: str, *names: str) -> None:
    """Measure the networks."""
    images = load_data(data, "validation", size=32)
    for name in names:
        told = read_config(checkpoint_folder(name) or name)["robust_hub"]
        model = load_model(name).eval().to(torch.bfloat16).to(memory_format=torch.channels_last)
        row = {"checkpoint": Path(name).name, "norm": told["norm"], "pretrained": told["recipe"]["sigmas"]}
        row |= {"epochs": told["recipe"]["epochs"], "images": len(images)}
        row |= {"right": {f"{sigma:g}": right(model, images, sigma) for sigma in MIXED}}
        with Path(out).open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
