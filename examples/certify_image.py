"""Certify one picture, and say in words what its certificate promises.

    python examples/certify_image.py photo.jpg
    python examples/certify_image.py photo.jpg --model runs/mine --sigma 0.5 --n 10000 --json photo.json

The picture is brought to the size that the network takes, as the training data were; the certificate is about the
result. By default the network is fine-tuned for a minute on handwritten digits, and without a picture one of those is
certified: a photograph of a cat gets a digit, too, and that no small change makes another one of it is all that is
said.
"""

from __future__ import annotations

from pathlib import Path

import click
from PIL import Image

import robust_hub
from robust_hub.guarantee.words import headline, meaning


@click.command()
@click.argument("photo", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", help="Name or folder of a fine-tuned checkpoint; by default one epoch on digits makes one.")
@click.option("--data", default="digits", show_default=True, help="What to fine-tune on where no model is given.")
@click.option("--sigma", default=0.25, show_default=True, help="Standard deviation of the noise.")
@click.option("--n", default=1000, show_default=True, help="Noisy copies that bound the probability of a class.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="File for the certificate, for others to check.")
def main(photo: Path | None, model: str | None, data: str, sigma: float, n: int, file: Path | None) -> None:
    """Certify the picture PHOTO."""
    if model is None:
        network = robust_hub.load_model("resnet18s_ln_mixednoise")
        robust_hub.finetune_clean(network, data, learning_rate=0.03, batch_size=64)
    else:
        network = robust_hub.load_model(model)
    smoothed = robust_hub.SmoothedClassifier(network)

    # A PIL image, as any program has it. What is of another size than the network's is never resized unasked.
    if photo is None:
        pixels, _ = robust_hub.load_data(data, split="test").batch([0])
        picture = Image.fromarray(pixels[0].permute(1, 2, 0).numpy())
    else:
        picture = Image.open(photo)
    x = robust_hub.prepare(picture, network)

    certificate = smoothed.certify(x, sigma, n=n)
    click.echo(headline(certificate, smoothed.classes))
    click.echo(meaning(certificate, smoothed.classes))
    if file is not None:
        file.write_text(certificate.to_json())
        click.echo(f"the certificate: {file}; robust-hub verify-certificate checks it")


if __name__ == "__main__":
    main()
