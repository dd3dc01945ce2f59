"""A network for 224x224 images: timm's own stem, built, checked and certified on one image, with random weights.

    python examples/imagenet_size.py
    python examples/imagenet_size.py --model resnet50_gn --photo photo.jpg --n 1000

No weights of this size come with the package, so the network knows nothing and its certificate is true and worthless:
it is about the function that the network computes. What the example shows is the way: `stem="imagenet"` takes a
sixteenth of the time that the stem for 32x32 would take, a photograph is brought to the network's size, and memory
grows with the batch and not with n. Pretrain such a network with `robust_hub.pretrain_mixed_noise`.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
import timm
import torch
from PIL import Image

import robust_hub
from robust_hub.images.given import size_of


def plasma(side: int) -> Image.Image:
    """Make a picture where no photograph is given: waves of three colours."""
    y, x = np.mgrid[0:side, 0:side] / side
    waves = np.dstack([np.sin(a * x + b * y + 7 * x * y) for a, b in ((9, 4), (3, 11), (6, 7))])
    return Image.fromarray((127.5 + 127.5 * waves).astype(np.uint8))


@click.command()
@click.option("--model", default="resnet18s_ln", show_default=True, help="An architecture of this package.")
@click.option("--photo", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A picture to certify.")
@click.option("--classes", default=10, show_default=True, help="Outputs of the network.")
@click.option("--sigma", default=0.5, show_default=True, help="Standard deviation of the noise.")
@click.option("--n", default=200, show_default=True, help="Noisy copies that bound the probability of a class.")
@click.option("--batch-size", default=32, show_default=True, help="Images a network batch.")
def main(model: str, photo: Path | None, classes: int, sigma: float, n: int, batch_size: int) -> None:
    """Build a network with random weights and certify one 224x224 image."""
    torch.manual_seed(0)
    network = timm.create_model(model, stem="imagenet", num_classes=classes).eval()
    height, width = size_of(network) or (224, 224)
    weights = sum(parameter.numel() for parameter in network.parameters())
    click.echo(f"{model} for {height}x{width}: {weights:,} weights, all of them RANDOM: it knows nothing")

    smoothed = robust_hub.SmoothedClassifier(network)
    picture = plasma(2 * height) if photo is None else Image.open(photo)
    x = robust_hub.prepare(picture, network)
    click.echo(f"a picture of {picture.height}x{picture.width} is certified at {tuple(x.shape)}")
    click.echo(f"without noise: {smoothed.name(int(smoothed.classify(x[None])[0]))} of {classes} classes")

    # Whatever a certificate needs is checked on the way: one fixed function of one image, finite logits, whole levels.
    start = time.monotonic()
    certificate = smoothed.certify(x, sigma, n0=50, n=n, batch_size=batch_size)
    seconds = time.monotonic() - start
    click.echo(f"{certificate!r}")
    click.echo(f"{certificate.samples} noisy copies in {seconds:.1f} s, {certificate.samples / seconds:.0f} a second")


if __name__ == "__main__":
    main()
