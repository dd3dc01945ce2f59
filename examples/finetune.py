"""Fine-tune a network that was pretrained on mixed noise, on clean images alone, and see that it withstands noise.

    python examples/finetune.py
    python examples/finetune.py --model resnet152_ln_mixednoise --data cifar10/ --out runs/cifar10 --learning-rate 0.001

The network saw clean and noisy images while it was pretrained. Afterwards clean images are enough: the classifier is
new, what the features learnt about noise stays.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

import robust_hub
from robust_hub.images.pixels import mean_std, normalize


def accuracy_under_noise(model: torch.nn.Module, images: robust_hub.ImageData, sigma: float) -> float:
    """Give the percentage of images that are classified rightly with one draw of noise each."""
    pixels, labels = images.batch(range(len(images)))  # uint8 (B, 3, H, W), int64 (B,)
    noisy = robust_hub.NoiseMixture((sigma,)).add(pixels.float() / 255, torch.Generator().manual_seed(0))
    model.eval()
    with torch.inference_mode():
        logits = model(normalize(noisy, *mean_std(model)))  # noise first, in pixels; then the network's own scale
    right = int((logits.argmax(1) == labels).sum())
    return 100 * right / len(labels)


@click.command()
@click.option("--model", default="resnet18s_ln_mixednoise", show_default=True, help="Pretrained name or folder.")
@click.option("--data", default="digits", show_default=True, help="Image folder, Hub id of datasets, or digits.")
@click.option("--epochs", default=3, show_default=True)
@click.option("--learning-rate", default=0.03, show_default=True)
@click.option("--head-only", is_flag=True, help="Train the classifier on fixed features.")
@click.option("--images", default=200, show_default=True, help="Test images to measure on.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the checkpoint; the same command resumes it.")
def main(
    model: str, data: str, epochs: int, learning_rate: float, head_only: bool, images: int, out: Path | None
) -> None:
    """Fine-tune on clean images and measure under noise."""
    network = robust_hub.load_model(model)
    result = robust_hub.finetune_clean(
        network, data, epochs=epochs, learning_rate=learning_rate, batch_size=64, head_only=head_only, out=out
    )
    click.echo(f"accuracy on the training images in the last epoch: {100 * result.history[-1]['accuracy']:.1f} %")

    test = robust_hub.load_data(data, split="test")
    test = test.subset(range(min(images, len(test))))
    for sigma in (0.0, 0.25, 0.5):
        click.echo(f"{len(test)} test images under sigma {sigma:g}: {accuracy_under_noise(network, test, sigma):.1f} %")
    if out is not None:
        click.echo(f"checkpoint: {out}; robust_hub.load_model({str(out)!r}) reads it")


if __name__ == "__main__":
    main()
