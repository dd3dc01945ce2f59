"""Measure pretrained networks on held-out images of their own data under each noise, and keep it in their folders.

python tools/under_noise.py DATA DTYPE CHECKPOINT...

DATA is the pretraining set with its validation images, DTYPE the type that the networks run in, CHECKPOINT a folder
of the shelf; every network gets the same noise. What is measured is written to `training/under_noise.json` in the
checkpoint's folder after every batch, and the same command goes on from there. Cards and docs/results.md read it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from robust_hub import NoiseMixture, SmoothedClassifier, load_data, load_model
from robust_hub.bars import tqdm
from robust_hub.certification.matching import match
from robust_hub.files import replace_text
from robust_hub.images.pixels import mean_std, normalize
from robust_hub.layout import TRAINING, UNDER_NOISE
from robust_hub.models.identity import weights_hash
from robust_hub.paper.rows import MIXED

BATCH = 250


@torch.inference_mode()
def measure(folder: Path, data: str, dtype: str) -> None:
    """Count the validation images that a network classifies rightly under each sigma; one draw of noise an image."""
    images = load_data(data, "validation", size=32)
    kind: torch.dtype = getattr(torch, dtype)
    model = load_model(folder).eval().to(kind).to(memory_format=torch.channels_last)
    mean, std = mean_std(model)
    file = folder / TRAINING / UNDER_NOISE
    row: dict[str, Any] = {"data": images.name, "data_fingerprint": images.data_hash, "split": images.split}
    row |= {"images": len(images), "dtype": dtype, "weights": weights_hash(model), "batch": BATCH}
    images = match(SmoothedClassifier(model), images).renumber(images)
    old = json.loads(file.read_text()) if file.exists() else {}
    right = old["right"] if old.keys() >= row.keys() and all(old[key] == row[key] for key in row) else {}
    done = old.get("done", 0) if right else 0
    starts = [(sigma, start) for sigma in MIXED for start in range(0, len(images), BATCH)]
    for at, (sigma, start) in enumerate(tqdm(starts, desc=folder.name)):
        if at < done:
            continue
        pixels, labels = images.batch(range(start, min(start + BATCH, len(images))))
        generator = torch.Generator().manual_seed(start)
        noisy = NoiseMixture((sigma,)).add(pixels.float() / 255, generator)
        logits = model(normalize(noisy, mean, std).to(kind, memory_format=torch.channels_last))
        key = f"{sigma:g}"
        right[key] = right.get(key, 0) + int((logits.argmax(1) == labels).sum())
        file.parent.mkdir(exist_ok=True)
        whole = at + 1 == len(starts)
        replace_text(file, json.dumps({**row, "right": right, **({} if whole else {"done": at + 1})}, indent=1) + "\n")


if __name__ == "__main__":
    for name in sys.argv[3:]:
        measure(Path(name), sys.argv[1], sys.argv[2])
