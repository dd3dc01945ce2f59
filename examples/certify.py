"""Certify images: one by one, for a table of radii, and a whole data set.

    python examples/certify.py
    python examples/certify.py --model runs/cifar10 --data cifar10/ --sigma 0.5

A certificate says: the smoothed classifier, which lets the network vote on many noisy copies of an image, gives the
same class to every image within the l2 distance `radius`, in units of pixels in [0, 1].
"""

from __future__ import annotations

import tempfile

import click

import robust_hub


@click.command()
@click.option("--model", help="Checkpoint fine-tuned on the data; by default one clean epoch makes one.")
@click.option("--data", default="digits", show_default=True, help="Image folder, Hub id of datasets, or digits.")
@click.option("--sigma", default=0.25, show_default=True, help="Standard deviation of the noise.")
@click.option("--n", default=1000, show_default=True, help="Noisy copies that bound the probability of a class.")
@click.option("--images", default=20, show_default=True, help="Test images to certify.")
def main(model: str | None, data: str, sigma: float, n: int, images: int) -> None:
    """Certify test images of a data set."""
    if model is None:
        # A pretrained network knows other classes: one epoch on clean images of these data gives it theirs.
        network = robust_hub.load_model("resnet18s_ln_mixednoise")
        train = robust_hub.load_data(data, split="train")
        robust_hub.finetune_clean(network, train, learning_rate=0.03, batch_size=64)
    else:
        network = robust_hub.load_model(model)
    test = robust_hub.load_data(data, split="test")
    smoothed = robust_hub.SmoothedClassifier(network)

    # One image, pixels in [0, 1]: the largest radius that n noisy copies can show, at confidence 0.999.
    x, label = test[0]
    certificate = smoothed.certify(x, sigma, n=n)
    if certificate.prediction == robust_hub.ABSTAIN:
        click.echo(f"one image: no class is certified, {certificate.count} of {n} votes are too few")
    else:
        name = smoothed.name(certificate.prediction)
        click.echo(f"one image: class {name!r} (true: {test.classes[label]!r}) within radius {certificate.radius:.3f}")

    # Where only some radii matter, sampling stops as soon as each of them is decided: the same guarantee for less.
    certificate = smoothed.certify(x, sigma, n=n, radii=(0.1, 0.25))
    click.echo(f"the same for radii 0.1 and 0.25: radius {certificate.radius:g} after {certificate.samples} samples")

    # A data set: one record an image in a folder, from where an interrupted call goes on.
    with tempfile.TemporaryDirectory() as folder:
        every = max(1, len(test) // images)
        run = robust_hub.certify(network, test, sigma, out=folder, every=every, limit=images, n=n)
    for radius in (0.0, 0.1, 0.25):
        accuracy = robust_hub.certified_accuracy(run.records, radius)
        click.echo(f"certified accuracy at radius {radius:g}: {accuracy.percent} % of {accuracy.n} images")


if __name__ == "__main__":
    main()
