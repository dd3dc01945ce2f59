"""Compare normalisation layers: which of them keeps robustness through fine-tuning on clean images?

    python examples/compare_norms.py
    python examples/compare_norms.py --data cifar10/ --norms bn,gn,in,ln --epochs 5 --images 500 --n 10000

The networks are the small pretrained ones of this repository's model_cards: one architecture, one pretraining on
mixed noise, another norm each. Batch norm carries the statistics of pretraining's noisy images; clean images replace
them. The other norms look at one image at a time. A few images of an easy data set show the way of measuring, not the
result: docs/results.md has it for CIFAR-10, with intervals.
"""

from __future__ import annotations

import tempfile
import warnings

import click

import robust_hub
from robust_hub.evidence.tables import markdown_table


@click.command()
@click.option("--data", default="digits", show_default=True, help="Image folder, Hub id of datasets, or digits.")
@click.option("--norms", default="bn,ln", show_default=True, help="Among bn, gn, in and ln.")
@click.option("--sigma", default=0.25, show_default=True, help="Standard deviation of the noise.")
@click.option("--epochs", default=2, show_default=True, help="Passes over the clean training images.")
@click.option("--images", default=40, show_default=True, help="Test images to certify.")
@click.option("--n", default=1000, show_default=True, help="Most noisy copies of an image.")
def main(data: str, norms: str, sigma: float, epochs: int, images: int, n: int) -> None:
    """Fine-tune and certify one network a norm, all alike."""
    radii = (0.0, 0.1, 0.25)
    train, test = (robust_hub.load_data(data, split=split) for split in ("train", "test"))
    every = max(1, len(test) // images)
    records = {}
    for norm in norms.split(","):
        network = robust_hub.load_model(f"resnet18s_{norm}_mixednoise")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that batch norm seldom keeps it is what we want to see
            robust_hub.finetune_clean(network, train, epochs=epochs, learning_rate=0.03, batch_size=64)
            with tempfile.TemporaryDirectory() as folder:
                # The same seed: every network is certified on the same images with the same noise.
                run = robust_hub.certify(
                    network, test, sigma, out=folder, every=every, limit=images, n=n, radii=radii, seed=0
                )
        records[norm] = run.records
    click.echo(markdown_table(records, radii[1:]))


if __name__ == "__main__":
    main()
