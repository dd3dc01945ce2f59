"""Commands around checkpoints: models, shelve, card, publish, verify, adopt, name-classes."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robust_hub.cli.completion import complete_base, complete_checkpoint, complete_data, complete_source
from robust_hub.cli.options import DTYPE, FILE, FOLDER, namespace_option
from robust_hub.cli.output import emit, in_columns, json_option, note
from robust_hub.models.family import NAMES, SUFFIX

if TYPE_CHECKING:
    from robust_hub.publishing.evidence import Shelved
    from robust_hub.publishing.hub import Published

licence_option = click.option(
    "--license",
    "--licence",
    "licence",
    metavar="ID",
    help="Licence of the weights: apache-2.0, cc-by-nc-4.0, other ...",
)


@click.command()
@click.option("--all", "every", is_flag=True, help="Architectures too, not only pretrained names.")
@click.option("--remote", is_flag=True, help="List the checkpoints of a namespace on the Hub instead.")
@namespace_option
@json_option
def models(every: bool, remote: bool, namespace: str | None) -> None:
    """List the models: which have weights here, their accuracies, size, and how they were trained.

    Example: robust-hub models
    """
    if not remote:
        _list_here(every)
    elif namespace is None:
        raise ValueError("expected --namespace, or ROBUST_HUB_NAMESPACE in the environment, with --remote")
    else:
        from robust_hub.publishing.hub import list_published

        names = ("repo_id", "revision", "pinned")
        found = [dict(zip(names, one, strict=True)) for one in list_published(namespace)]
        lines = [f"{one['repo_id']} {one['revision']}{' (pinned)' if one['pinned'] else ''}" for one in found]
        emit({"namespace": namespace, "published": found}, "\n".join(lines))


def _list_here(every: bool) -> None:
    from robust_hub.publishing.evidence import describe_all

    shelved = {one.name: one for one in describe_all()}
    listed = [
        (name, shelved.get(name))
        for name in sorted(NAMES.keys() | shelved.keys(), key=lambda name: (name not in shelved, name))
        if name in shelved or every or name.endswith(SUFFIX)
    ]
    emit({"models": [_model_values(*one) for one in listed]}, lambda: _table(listed))


def _model_values(name: str, one: Shelved | None) -> dict[str, Any]:
    from robust_hub.evidence.values import share_values
    from robust_hub.publishing.evidence import RADIUS

    if one is None:
        return {"name": name, "weights": False}
    return {
        "name": name,
        "weights": True,
        "folder": one.folder,
        "trained": one.trained,
        "megabytes": one.megabytes,
        "base": one.base,
        "certified_on": one.data,
        "sigma": one.sigma,
        "clean": share_values(one.clean),
        "certified": [{"radius": RADIUS, "accuracy": share_values(one.certified)}],
    }


def _table(listed: list[tuple[str, Shelved | None]]) -> str:
    """Set the models in columns; a terminal too narrow for all of them has the most telling ones."""
    from robust_hub.publishing.evidence import RADIUS

    rows: list[tuple[str, ...]] = [("model", "clean %", f"r = {RADIUS:g} %", "MB", "certified on", "trained")]
    for name, one in listed:
        if one is None:
            rows.append((name, "no weights yet" if name.endswith(SUFFIX) else "architecture", "", "", "", ""))
            continue
        accuracies = ("-" if a is None else a.percent for a in (one.clean, one.certified))
        size = f"{one.megabytes:.1f}{'' if one.base is None else ' + base'}"
        on = "-" if one.data is None else f"{one.data}, sigma {one.sigma:g}"
        rows.append((name, *accuracies, size, on, one.trained))
    columns = in_columns(rows, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
    return (
        f"{columns}\n\nclean: images that the network has right without noise; r = {RADIUS:g}: right and\n"
        "certified at that radius, l2 for pixels in [0, 1]; percent of all, with 95 % intervals."
    )


@click.command()
@click.argument("source", type=FOLDER, shell_complete=complete_checkpoint)
@click.argument("name")
@click.option("--certified", multiple=True, type=FOLDER, help="Run folder of certify, once for each.")
@click.option("--dtype", type=DTYPE, help="Type of the file [default: as certified, else float16].")
@click.option(
    "--base",
    metavar="NAME",
    help="Store the difference to this checkpoint, which it was fine-tuned from.",
    shell_complete=complete_base,
)
@licence_option
@click.option("--shelf", type=FOLDER, default=Path("model_cards"), show_default=True, help="Folder of all checkpoints.")
@json_option
def shelve(
    source: Path,
    name: str,
    certified: tuple[Path, ...],
    dtype: str | None,
    base: str | None,
    licence: str | None,
    shelf: Path,
) -> None:
    """Put the checkpoint folder SOURCE on the shelf as NAME, with the records that certify it and its model card.

    From then on every command, and timm, knows it by its name.

    Example: robust-hub shelve runs/cifar10 resnet18s_ln_mixednoise.cifar10 --certified runs/certified/sigma_0.25
    """
    import torch

    from robust_hub.publishing.loading import load_line
    from robust_hub.publishing.shelf import shelve as run

    kind = None if dtype is None else getattr(torch, dtype)
    folder = run(source, name, certified=certified, dtype=kind, base=base, license=licence, shelf=shelf)
    line = load_line(name, folder)
    emit({"name": name, "folder": folder, "card": _card_if_drawn(name, folder), "load": line}, str(folder))
    note(f"load it in Python with: {line}")


def _card_if_drawn(name: str, folder: Path) -> Path | None:
    """Write the card of what was shelved; without matplotlib it has to wait, and the checkpoint is sound without it."""
    from robust_hub.publishing.cards import write_card

    try:
        return write_card(name, folder)
    except ImportError as error:
        note(f"no card is written yet: {error}; then robust-hub card {shlex.quote(str(folder))} writes it")
        return None


@click.command()
@click.argument("folder", type=FOLDER, shell_complete=complete_checkpoint)
@click.option("--name", help="The checkpoint's name for timm [default: the folder's].")
@json_option
def card(folder: Path, name: str | None) -> None:
    """Write the model card of checkpoint FOLDER, README.md, and the picture of its curves.

    Example: robust-hub card model_cards/resnet18s_ln_mixednoise.cifar10
    """
    from robust_hub.publishing.cards import write_card

    written = write_card(name or folder.resolve().name, folder)
    emit({"name": name or folder.resolve().name, "card": written}, str(written))


@click.command()
@click.argument("folder", type=FOLDER, shell_complete=complete_checkpoint)
@namespace_option
@click.option("--repo", help="Repository, owner/name [default: the folder's name in the namespace].")
@click.option("--name", help="The checkpoint's name for timm [default: the folder's].")
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--tag", help="Tag the commit.")
@click.option("--base-model", help="Repository of the model that this one was fine-tuned from.")
@licence_option
@click.option("--pin", "pinned", is_flag=True, help="Load the name at the published revision from now on.")
@click.option("--dry-run", is_flag=True, help="Send nothing, say what would go.")
@json_option
def publish(
    folder: Path,
    namespace: str | None,
    repo: str | None,
    name: str | None,
    licence: str | None,
    pinned: bool,
    **options: Any,
) -> None:
    """Send checkpoint FOLDER with card and records to the Hub, and compare what comes back.

    Example: robust-hub publish model_cards/resnet18s_ln_mixednoise.cifar10 --namespace me --dry-run
    """
    from robust_hub.publishing.hub import pin
    from robust_hub.publishing.hub import publish as run
    from robust_hub.publishing.loading import load_line

    name = name or folder.resolve().name
    if repo is None and namespace is None:
        raise ValueError("expected --repo owner/name, or --namespace (or ROBUST_HUB_NAMESPACE), got neither")
    licence = licence or _asked_licence(folder, dry=options["dry_run"])
    published = run(folder, repo or f"{namespace}/{name}", name=name, license=licence, **options)
    line = load_line(name, folder, published.repo_id)
    if pinned and published.revision is not None:
        pin(name, published)
    emit({**_published_values(published), "load": line}, lambda: _published_words(published))
    if published.revision is not None:
        note(f"load it in Python with: {line}")


def _asked_licence(folder: Path, *, dry: bool) -> str | None:
    """Ask a person at a terminal for the licence of weights that have none; without one it is refused, or only said."""
    from robust_hub.models.config import read_config
    from robust_hub.publishing.licences import ADDRESS

    if read_config(folder).license is not None:
        return None
    if dry:
        note("no licence is chosen for these weights: to be sent they need --license")
    elif sys.stdin.isatty():
        words = f"Licence of these weights, one of the ids of {ADDRESS} such as apache-2.0, cc-by-nc-4.0 or other"
        return str(click.prompt(words, value_proc=_licence, err=True))
    return None


def _licence(answer: str) -> str:
    """Take an answer at a prompt, which click asks for again after its own errors alone."""
    from robust_hub.publishing.licences import check_licence

    try:
        return check_licence(answer)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _published_values(published: Published) -> dict[str, Any]:
    files = [{"path": path, "bytes": size, "sha256": digest} for path, size, digest in published.files]
    return {**vars(published), "dry_run": published.revision is None, "files": files}


def _published_words(published: Published) -> str:
    lines = [f"{size:>12,}  {digest[:12]}  {path}" for path, size, digest in published.files]
    lines += [f"{'removed':>12}  {'':12}  {path}" for path in published.removed]
    if published.revision is None:
        return "\n".join([*lines, f"dry run: nothing was sent to {published.repo_id}"])
    return "\n".join([*lines, f"{published.repo_id} at {published.revision}: what comes back is what was sent"])


@click.command()
@click.argument("source", shell_complete=complete_source)
@click.option("--revision", help="Branch, tag or commit of a repository.")
@json_option
def verify(source: str, revision: str | None) -> None:
    """Check a checkpoint: SOURCE is its name, its folder, or a repository on the Hub, owner/name.

    Weights against their hashes, norm, layers, logits of fixed images, and every record.

    Example: robust-hub verify model_cards/resnet18s_ln_mixednoise.cifar10
    """
    from robust_hub.publishing.hub import verify as run

    folder = run(source, revision=revision)
    words = f"{folder}: weights, norm, logits and records are what config.json says"
    emit({"source": source, "revision": revision, "folder": folder, "well": True}, words)


@click.command()
@click.argument("folder", type=FOLDER, shell_complete=complete_checkpoint)
@json_option
def adopt(folder: Path) -> None:
    """Make a checkpoint of FOLDER, which timm or transformers wrote.

    Its network is checked, then hashes are written into its config.json.

    Example: robust-hub adopt trainer_output/
    """
    from robust_hub.models.adopt import adopt as run

    made = run(folder)
    emit({"folder": made}, f"{made}: layers and logits are sound, their hashes are in config.json")


@click.command("name-classes")
@click.argument("folder", type=FOLDER, shell_complete=complete_checkpoint)
@click.option(
    "--data",
    help="Take the names of this data set's classes: a name, a folder or a Hub id.",
    shell_complete=complete_data,
)
@click.option("--split", default="train", show_default=True, help="Split of the data.")
@click.option("--names", type=FILE, help="A text file with one name a line.")
@json_option
def name_classes(folder: Path, data: str | None, split: str, names: Path | None) -> None:
    """Write the names of the classes into the config.json of checkpoint FOLDER.

    All else in it stays. They have to be those of the data that it was trained on, in their order.

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
    named = run(folder, words)
    emit({"config": named, "classes": words}, f"{named}: {len(words)} classes from {words[0]!r} to {words[-1]!r}")
