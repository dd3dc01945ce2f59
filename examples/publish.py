r"""From a fine-tuned network to a folder for the Hugging Face Hub: weights, records and a card written from them.

    python examples/publish.py                                    # says what would be sent, sends nothing
    python examples/publish.py --checkpoint runs/cifar10 --data cifar10/ --name resnet18s_ln_mixednoise.cifar10 \
        --repo-id me/resnet18s_ln_mixednoise.cifar10 --license apache-2.0 --send

Every number of the card is read from the records, and records of other weights are refused.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

import robust_hub
from robust_hub.publishing.hub import publish
from robust_hub.publishing.shelf import shelve


@click.command()
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Folder of finetune_clean; by default a new one.")
@click.option("--data", default="digits", show_default=True, help="What it was fine-tuned on.")
@click.option("--name", default="resnet18s_ln_mixednoise.digits", show_default=True, help="Its name for timm.")
@click.option(
    "--repo-id", default="me/resnet18s_ln_mixednoise.digits", show_default=True, help="Repository on the Hub."
)
@click.option("--images", default=20, show_default=True, help="Test images to certify.")
@click.option("--n", default=1000, show_default=True, help="Noisy copies that bound the probability of a class.")
@click.option("--license", "licence", help="The Hub's id of the licence that you choose, such as apache-2.0; to send.")
@click.option("--send", is_flag=True, help="Publish; this asks for a login (`hf auth login`).")
def main(
    checkpoint: Path | None, data: str, name: str, repo_id: str, images: int, n: int, licence: str | None, send: bool
) -> None:
    """Certify a checkpoint, put it on a shelf with its records, and publish it or say what would be sent."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if checkpoint is None:
            checkpoint = work / "model"
            pretrained = robust_hub.load_model("resnet18s_ln_mixednoise")
            robust_hub.finetune_clean(pretrained, data, learning_rate=0.03, batch_size=64, out=checkpoint)

        # What is published was certified before: a run is a folder of records that carry the hash of the weights.
        test = robust_hub.load_data(data, split="test")
        every = max(1, len(test) // images)
        network = robust_hub.load_model(checkpoint)
        robust_hub.certify(network, test, 0.25, out=work / "certified", every=every, limit=images, n=n)

        # The shelf's folder is what goes up; the card is its README.md.
        shelved = shelve(checkpoint, name, certified=[work / "certified"], license=licence, shelf=work / "model_cards")
        published = publish(shelved, repo_id, dry_run=not send)
    click.echo(f"sent to {repo_id}, commit {published.revision}" if send else f"would be sent to {repo_id}:")
    for path, size, digest in published.files:
        click.echo(f"{size:>12,} bytes  {digest[:12]}  {path}")


if __name__ == "__main__":
    main()
