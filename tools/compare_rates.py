"""Fine-tune at several learning rates and measure on held-out training images, one line a trial.

python tools/compare_rates.py DATA OUT.jsonl NAME=FOLDER... -- NAME,learning_rate,head_scale,epochs[,sigma|head] ...

A trial trains on the training images and is measured on 500 of the validation images; where the data have none, it
trains on nine tenths of the training images and is measured on 500 of the rest. It gives the accuracy on clean images
and under noise 0.25, and the share of images with at least 87 (98) of 100 noisy votes for their class, which is what a
certificate of radius 0.25 (0.5) takes. tools/make_results.py sets the lines in docs/results.md.

The lines in docs/evidence are of 100 draws shared by all trials, from one torch.Generator seeded with 1. Votes are
counted by SmoothedClassifier now, with noise of its own for each image: a repeated trial gives the same clean accuracy
and differs in the other three by what 100 draws leave open.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import nn

from robust_hub import ImageData, NoiseMixture, SmoothedClassifier, load_data, load_model
from robust_hub.images.set_aside import holdout_split
from robust_hub.models.config import read_config
from robust_hub.paper.experiment import FINETUNE
from robust_hub.provenance import Provenance
from robust_hub.training.finetune import finetune
from robust_hub.training.options import Options

SIGMA, VOTES, IMAGES, SEED = 0.25, 100, 500, 1
ENOUGH = {"radius 0.25": 0.87, "radius 0.5": 0.98}


def measure(model: nn.Module, held: ImageData) -> dict[str, float]:
    """Give accuracies of a network in bfloat16 on held-out images, in percent."""
    smoothed = SmoothedClassifier(model.to(torch.bfloat16).to(memory_format=torch.channels_last))
    pixels, labels = held.batch(range(len(held)))
    images = pixels.float() / 255
    clean = (smoothed.classify(images) == labels).float()
    certificates = smoothed.certify_batch(images, SIGMA, n0=1, n=VOTES, seed=SEED)
    votes = [c.counts[label] / VOTES for c, label in zip(certificates, labels.tolist(), strict=True)]
    accuracies = {"clean": clean.mean().item(), "noisy": mean(votes)}
    accuracies |= {name: mean(share >= least for share in votes) for name, least in ENOUGH.items()}
    return {name: round(100 * value, 1) for name, value in accuracies.items()}


def parts(data: str) -> tuple[ImageData, ImageData]:
    """Give the images to train on and those to measure on."""
    images = load_data(data, "train", size=32)
    try:
        held = load_data(data, "validation", size=32)
    except ValueError:
        images, held = holdout_split(images, 0.1, 0)
    else:
        held = held.subset(range(0, len(held), max(1, len(held) // IMAGES)))
    return images, held.subset(range(min(IMAGES, len(held))))


def main(data: str, out: str, *words: str) -> None:
    """Run the trials."""
    part, held = parts(data)
    sources = dict(word.split("=", 1) for word in words if "=" in word)
    for trial in (word for word in words if "," in word):
        name, rate, scale, epochs, *more = trial.split(",")
        config = read_config(sources[name])
        model = load_model(sources[name])
        options: dict[str, Any] = {"learning_rate": float(rate), "head_scale": float(scale), "epochs": int(epochs)}
        sigma = float(more[0]) if more and more[0] != "head" else 0.0
        head = "head" in more
        kept = {k: v for k, v in options.items() if k != "head_scale"}
        keywords: dict[str, Any] = {**FINETUNE, **kept, "mixed_precision": "bf16", "progress": False}
        built = Options.of(model, **keywords)
        finetune(model, part, NoiseMixture((sigma,)), built, head_only=head, head_scale=options["head_scale"])
        before = config.provenance or Provenance()
        row: dict[str, Any] = {"norm": config.norm, "pretrained": before.sigmas, "pretraining_epochs": before.epochs}
        row |= {**options, "sigma": sigma, "head_only": head, "images": len(held), **measure(model, held)}
        with Path(out).open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main(*(word for word in sys.argv[1:] if word != "--"))
