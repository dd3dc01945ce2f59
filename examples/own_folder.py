"""From a folder of your own photographs to a certified accuracy: fine-tune on one part, certify the other.

    python examples/own_folder.py photographs/
    python examples/own_folder.py photographs/ --sigma 0.5 --images 200 --n 10000 --out runs/mine

The folder has one folder for each class, named as the class is, with its images in it: JPEG, PNG, whatever Pillow
reads. Without one, a small folder is made of the handwritten digits that come with scikit-learn. A fifth of every class
is held out before training, and only these images are certified: what a network was trained on says little of others.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from PIL import Image

import robust_hub
from robust_hub.evidence.tables import markdown_table


def write_digits(folder: Path, count: int) -> None:
    """Write handwritten digits as PNG files, a folder for each class."""
    digits = robust_hub.load_data("digits", split="train")
    pixels, labels = digits.batch(range(count))
    for k, (image, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
        place = folder / f"digit {digits.classes[label]}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(place / f"{k}.png")


@click.command()
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--epochs", type=int, help="Passes over the clean training images; by default as many as suit them.")
@click.option("--sigma", default=0.25, show_default=True, help="Standard deviation of the noise.")
@click.option("--images", default=20, show_default=True, help="Held-out images to certify.")
@click.option("--n", default=1000, show_default=True, help="Noisy copies that bound the probability of a class.")
@click.option("--made", default=300, show_default=True, help="Images of the folder that is made where none is given.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to keep checkpoint and records in.")
def main(
    folder: Path | None, epochs: int | None, sigma: float, images: int, n: int, made: int, out: Path | None
) -> None:
    """Fine-tune on a part of the images in FOLDER, and certify held-out ones."""
    with tempfile.TemporaryDirectory() as temporary:
        if folder is None:
            folder = Path(temporary) / "photographs"
            write_digits(folder, made)
        out = Path(temporary) / "out" if out is None else out

        # Photographs are of many sizes and the network takes one: the shorter side is resized, the centre cropped.
        # How long and at which rates to train is chosen by their number; a fifth of every class is kept apart.
        network = robust_hub.load_model("resnet18s_ln_mixednoise")
        result = robust_hub.finetune_clean(network, folder, val=0.2, epochs=epochs, out=out / "model")
        assert result.judged is not None and result.held_out is not None
        click.echo(result.judged.words)

        # Of these images some are certified, evenly spaced; the same call goes on where it was stopped.
        every = max(1, len(result.held_out) // images)
        run = robust_hub.certify(network, result.held_out, sigma, out=out / "certified", every=every, limit=images, n=n)
        click.echo(markdown_table(run, radii=(0.0, 0.1, 0.25, 0.5)))
        mistaken = sum(record.predict not in (record.label, robust_hub.ABSTAIN) for record in run.records)
        click.echo(f"{mistaken} of {len(run.records)} are certified for a class that is wrong: robust is not right.")


if __name__ == "__main__":
    main()
