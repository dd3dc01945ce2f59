"""Commands around checkpoints: models, shelve, card, publish, verify, adopt, name-classes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from robust_hub.cli.options import DTYPE, FOLDER, namespace_option
from robust_hub.models.family import NAMES, SUFFIX


@click.command()
@click.option("--all", "every", is_flag=True, help="Architectures too, not only pretrained names.")
@click.option("--remote", is_flag=True, help="List the checkpoints of a namespace on the Hub instead.")
@namespace_option
def models(every: bool, remote: bool, namespace: str | None) -> None:
    """List the models: which have weights here, how those were trained, their size and accuracies.

    Example: robust-hub models
    """
    if not remote:
        _list_here(every)
    elif namespace is None:
        raise ValueError("expected --namespace, or ROBUST_HUB_NAMESPACE in the environment, with --remote")
    else:
        from robust_hub.publishing.hub import list_published

        for repo_id, revision, pinned in list_published(namespace):
            click.echo(f"{repo_id} {revision}{' (pinned)' if pinned else ''}")


def _list_here(every: bool) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    from robust_hub.publishing.evidence import RADIUS, describe_all

    shelved = {one.name: one for one in describe_all()}
    whole = [Column(word, no_wrap=True) for word in ("model", "MB", "clean %", f"r = {RADIUS:g} %")]
    table = Table(whole[0], "trained", whole[1], "certified on", *whole[2:])
    for name in sorted(NAMES.keys() | shelved.keys()):
        one = shelved.get(name)
        if one is not None:
            table.add_row(
                name,
                one.trained,
                f"{one.megabytes:.1f}{'' if one.base is None else ' + base'}",
                "-" if one.data is None else f"{one.data}, sigma {one.sigma:g}",
                *("-" if a is None else a.percent for a in (one.clean, one.certified)),
            )
        elif every or name.endswith(SUFFIX):
            table.add_row(name, "no weights yet" if name.endswith(SUFFIX) else "architecture", "", "", "", "")
    Console(width=max(140, shutil.get_terminal_size().columns), markup=False).print(table)


@click.command()
@click.argument("source", type=FOLDER)
@click.argument("name")
@click.option("--certified", multiple=True, type=FOLDER, help="Run folder of certify, once for each.")
@click.option("--dtype", type=DTYPE, help="Type of the file [default: as certified, else float16].")
@click.option("--base", help="Store the difference to this checkpoint, which it was fine-tuned from.")
@click.option("--shelf", type=FOLDER, default=Path("model_cards"), show_default=True, help="Folder of all checkpoints.")
def shelve(
    source: Path, name: str, certified: tuple[Path, ...], dtype: str | None, base: str | None, shelf: Path
) -> None:
    """Put the checkpoint folder SOURCE on the shelf as NAME, with the records that certify it.

    Example: robust-hub shelve runs/cifar10 resnet18s_ln_mixednoise.cifar10 --certified runs/certified/sigma_0.25
    """
    import torch

    from robust_hub.publishing.shelf import shelve as run

    kind = None if dtype is None else getattr(torch, dtype)
    click.echo(run(source, name, certified=certified, dtype=kind, base=base, shelf=shelf))


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--name", help="The checkpoint's name for timm [default: the folder's].")
def card(folder: Path, name: str | None) -> None:
    """Write a checkpoint folder's README.md from its records, and the picture of its curves.

    Example: robust-hub card model_cards/resnet18s_ln_mixednoise.cifar10
    """
    from robust_hub.publishing.cards import write_card

    click.echo(write_card(name or folder.resolve().name, folder))


@click.command()
@click.argument("folder", type=FOLDER)
@namespace_option
@click.option("--repo", help="Repository, owner/name [default: the folder's name in the namespace].")
@click.option("--name", help="The checkpoint's name for timm [default: the folder's].")
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--tag", help="Tag the commit.")
@click.option("--base-model", help="Repository of the model that this one was fine-tuned from.")
@click.option("--pin", "pinned", is_flag=True, help="Load the name at the published revision from now on.")
@click.option("--dry-run", is_flag=True, help="Send nothing, say what would go.")
def publish(
    folder: Path, namespace: str | None, repo: str | None, name: str | None, pinned: bool, **options: Any
) -> None:
    """Send a checkpoint folder with its card and records to the Hub, and compare what comes back.

    Example: robust-hub publish model_cards/resnet18s_ln_mixednoise.cifar10 --namespace me --dry-run
    """
    from robust_hub.publishing.hub import pin
    from robust_hub.publishing.hub import publish as run

    name = name or folder.resolve().name
    if repo is None and namespace is None:
        raise ValueError("expected --repo owner/name, or --namespace (or ROBUST_HUB_NAMESPACE), got neither")
    published = run(folder, repo or f"{namespace}/{name}", name=name, **options)
    for path, size, digest in published.files:
        click.echo(f"{size:>12,}  {digest[:12]}  {path}")
    for path in published.removed:
        click.echo(f"{'removed':>12}  {'':12}  {path}")
    if published.revision is None:
        click.echo(f"dry run: nothing was sent to {published.repo_id}")
        return
    click.echo(f"{published.repo_id} at {published.revision}: what comes back is what was sent")
    if pinned:
        pin(name, published)


@click.command()
@click.argument("source")
@click.option("--revision", help="Branch, tag or commit of a repository.")
def verify(source: str, revision: str | None) -> None:
    """Check a checkpoint folder, or a repository on the Hub: hashes, norm, layers, logits and records.

    Example: robust-hub verify model_cards/resnet18s_ln_mixednoise.cifar10
    """
    from robust_hub.publishing.hub import verify as run

    click.echo(f"{run(source, revision=revision)}: weights, norm, logits and records are what config.json says")


@click.command()
@click.argument("folder", type=FOLDER)
def adopt(folder: Path) -> None:
    """Make a checkpoint of FOLDER, which timm or transformers wrote: check its network, then write hashes.

    Example: robust-hub adopt trainer_output/
    """
    from robust_hub.models.adopt import adopt as run

    click.echo(f"{run(folder)}: layers and logits are sound, their hashes are in config.json")


@click.command("name-classes")
@click.argument("folder", type=FOLDER)
@click.option("--data", help="Take the names of this data set's classes: a name, a folder or a Hub id.")
@click.option("--split", default="train", show_default=True, help="Split of the data.")
@click.option("--names", type=click.Path(path_type=Path), help="A text file with one name a line.")
def name_classes(folder: Path, data: str | None, split: str, names: Path | None) -> None:
    """Write the names of the classes of checkpoint FOLDER into its config.json; all else in it stays.

    They have to be those of the data that it was trained on, in their order.

    Example: robust-hub name-classes runs/tuned --data digits
    """
    from robust_hub.images.sources import find
    from robust_hub.models.labels import name_classes as run

    if (data is None) == (names is None):
        raise ValueError("expected either --data or --names, to say the names of the classes")
    if names is not None:
        words = [line.strip() for line in names.read_text(encoding="utf-8").splitlines() if line.strip()]
    elif (told := find(data, split).classes) is None:
        raise ValueError(f"expected data whose classes have names, got {data}, which has numbers: use --names")
    else:
        words = [str(word) for word in told]
    click.echo(f"{run(folder, words)}: {len(words)} classes from {words[0]!r} to {words[-1]!r}")
