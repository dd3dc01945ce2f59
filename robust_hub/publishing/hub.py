"""Verify checkpoint folders, and publish them on the Hugging Face Hub.

A checkpoint goes up in one commit, is fetched back into a fresh cache and compared before it counts as published. The
token is the Hub's own login's; nothing here reads, prints or writes it.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants

from robust_hub.errors import CheckpointError
from robust_hub.files import inside
from robust_hub.layout import SENT
from robust_hub.models.config import read_config
from robust_hub.models.pins import read_pins, write_pin
from robust_hub.models.remote import WORLD, fetch, reach, short
from robust_hub.models.resnets import load_model
from robust_hub.models.shelves import check_name, checkpoint_folder
from robust_hub.models.stored import copy_whole, sha256
from robust_hub.parsing import shown
from robust_hub.publishing.cards import write_card
from robust_hub.publishing.evidence import certification
from robust_hub.publishing.licences import check_licence, record_licence, warn_of_inherited
from robust_hub.publishing.refusals import check_repo_id, in_words
from robust_hub.publishing.sound import check_folder


@dataclass(frozen=True)
class Published:
    """What `publish` did, or with `dry_run` would do.

    Attributes:
        repo_id: The repository.
        revision: The commit, 40 hex digits; None of a dry run.
        files: Path, bytes and sha256 of every file of the commit.
        removed: Files of the repository that the commit takes away.
    """

    repo_id: str
    revision: str | None
    files: tuple[tuple[str, int, str], ...]
    removed: tuple[str, ...] = ()


def verify(source: str | Path, *, revision: str | None = None) -> Path:
    """Check a checkpoint of the shelf or in a folder, or one on the Hub, to the last number.

    Weights against the hashes, norm and stem of config.json, every layer, the logits of two fixed images, and each
    record's hash of the weights that it certified.

    Args:
        source: A name of `list_checkpoints`, a folder (which comes before a name), or a repository "owner/name".
        revision: Branch, tag or commit of the repository.

    Returns:
        The folder that was checked.

    Raises:
        CheckpointError: If anything does not fit; of a repository, the cache is then rid of it.
        ValueError: If records are damaged or of another network.

    Example:
        >>> verify("resnet18s_ln_mixednoise").name
        'resnet18s_ln_mixednoise'
    """
    text = str(source)
    if Path(source).is_dir() or text.count("/") != 1 or text.startswith(("/", ".", "~")):
        named = None if Path(source).is_dir() else checkpoint_folder(text)
        return check_folder(Path(source) if named is None else named)
    return fetch(text, revision or "main", check=check_folder)


def publish(
    folder: str | Path,
    repo_id: str,
    *,
    name: str | None = None,
    private: bool = False,
    dry_run: bool = False,
    tag: str | None = None,
    base_model: str | None = None,
    license: str | None = None,
) -> Published:
    """Send a checkpoint folder to the Hub in one commit, with a fresh card, and compare what comes back.

    Args:
        folder: A folder of `shelve`, or any checkpoint folder with records.
        repo_id: Repository, "owner/name"; made if it is not there.
        name: The checkpoint's name for timm; by default the folder's.
        private: Whether a new repository is private.
        dry_run: Whether to say only what would be sent.
        tag: Tag of the commit.
        base_model: Repository of the pretrained model that this one was fine-tuned from, for the card.
        license: The Hub's id of the licence of the weights, such as "apache-2.0" or "other"; by default the one that
            the folder records, and a dry run needs none.

    Returns:
        What was, or would be, sent.

    Raises:
        CheckpointError: If the folder fails `verify`, a fine-tuned model has no records, the tag is taken, the Hub
            cannot be reached, or what comes back differs (the commit is then there, and the error says so).
        ValueError: If records are of another network, the name is none, repo_id is no "owner/name", no licence is
            chosen, or a file that would be sent is a link out of the folder.
        ConnectionError: If the Hub refuses; the branch is then as it was before or, if only the tag is missing, new.

    Example:
        >>> from robust_hub.models.shelves import checkpoint_folder
        >>> folder = checkpoint_folder("resnet18s_ln_mixednoise")
        >>> sent = publish(folder, "me/resnet18s_ln_mixednoise", dry_run=True)
        >>> {"README.md", "config.json", "model.safetensors"} <= {path for path, _, _ in sent.files}
        True
    """
    folder = Path(folder)
    name = check_name(name or folder.resolve().name)
    check_repo_id(repo_id)
    check_folder(folder)
    config = read_config(folder)
    chosen, provenance = check_licence(license) if license else config.license, config.provenance
    if (provenance is None or provenance.job != "pretrain") and not certification(folder):
        raise CheckpointError(
            f"{folder} has no certification records, a card without them would claim nothing: certify it and "
            "`robust-hub shelve` it with its run first"
        )
    if chosen is None and not dry_run:
        raise ValueError(
            f"expected a licence for the weights in {shown(folder)}, got none: name the one that you choose "
            "(--license apache-2.0, cc-by-nc-4.0, other ...), nothing was sent"
        )
    warn_of_inherited(config, chosen)
    with tempfile.TemporaryDirectory() as folder_name:
        stage = Path(folder_name) / name
        _stage(folder, stage)
        if chosen is not None:
            record_licence(stage, chosen)
        write_card(name, stage, base_model=base_model, repo_id=repo_id)
        paths = sorted(path for path in stage.rglob("*") if path.is_file())
        files = tuple((p.relative_to(stage).as_posix(), p.stat().st_size, sha256(p)) for p in paths)
        if dry_run:
            return Published(repo_id, None, files)
        reach(repo_id)
        with in_words(repo_id):
            return _send(stage, repo_id, files, private=private, tag=tag)


def list_published(namespace: str) -> list[tuple[str, str, bool]]:
    """List a namespace's checkpoints on the Hub.

    Args:
        namespace: User or organisation.

    Returns:
        Repository, commit of its main branch, and whether a name stands for that commit here.

    Raises:
        CheckpointError: If the Hub cannot be reached.
        ConnectionError: If it refuses.
    """
    reach(namespace, f"{constants.ENDPOINT}/api/models?author={namespace}&limit=1")
    pins = {(pin["repo_id"], pin["revision"]) for pin in read_pins().values()}
    with in_words(namespace, "listed"):
        models = list(HfApi().list_models(author=namespace, filter="randomized-smoothing", full=True))
    return [(one.id, str(one.sha), (one.id, str(one.sha)) in pins) for one in sorted(models, key=lambda one: one.id)]


def pin(name: str, published: Published) -> Path:
    """Keep a published revision as the one that a name stands for, for this user.

    Args:
        name: A name for timm.
        published: What `publish` gave.

    Returns:
        The file of the user's pins.

    Raises:
        ValueError: If it is of a dry run, or the user's pins are damaged.
        OSError: If they cannot be written.
    """
    if published.revision is None:
        raise ValueError("a dry run has no revision to pin")
    return write_pin(name, published.repo_id, published.revision)


def _stage(folder: Path, stage: Path) -> None:
    """Copy the files that belong to a checkpoint, its weights whole, and no others."""
    stage.mkdir(parents=True)
    copy_whole(folder, stage)
    for pattern in SENT:
        for path in folder.glob(pattern):
            target = stage / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(inside(folder, path.relative_to(folder)), target)


def _send(
    stage: Path, repo_id: str, files: tuple[tuple[str, int, str], ...], *, private: bool, tag: str | None
) -> Published:
    api = HfApi()
    api.create_repo(repo_id, private=private, exist_ok=True)
    if tag is not None and tag in {one.name for one in api.list_repo_refs(repo_id).tags}:
        raise CheckpointError(f"{repo_id} has a tag {tag} already: name another, nothing was sent")
    there = api.model_info(repo_id)
    ours = {path for path, _, _ in files}
    theirs = {sibling.rfilename for sibling in there.siblings or ()}
    removed = tuple(sorted(theirs - ours - {".gitattributes"}))
    adding = [CommitOperationAdd(path, str(stage / path)) for path, _, _ in files]
    taking = [CommitOperationDelete(path) for path in removed]
    try:
        commit = api.create_commit(
            repo_id, [*adding, *taking], commit_message=f"Publish {stage.name}", parent_commit=there.sha
        )
    except RuntimeError as error:  # how the client says that a large file could not be sent
        if isinstance(error.__cause__, WORLD):
            raise error.__cause__ from None
        raise ConnectionError(short(error)) from None
    with tempfile.TemporaryDirectory() as fresh:
        back = fetch(repo_id, commit.oid, cache_dir=fresh, check=check_folder)
        differing = [path for path, _, digest in files if not (back / path).is_file() or sha256(back / path) != digest]
        if differing:
            raise CheckpointError(f"{repo_id} gives back other bytes than were sent: {', '.join(differing)}")
        _same_logits(load_model(stage), load_model(back), repo_id)
    if tag is not None:
        api.create_tag(repo_id, tag=tag, revision=commit.oid)
    return Published(repo_id, commit.oid, files, removed)


def _same_logits(one: torch.nn.Module, two: torch.nn.Module, repo_id: str) -> None:
    size = (getattr(one, "pretrained_cfg", None) or {}).get("input_size", (3, 32, 32))
    x = torch.linspace(-2, 2, 2 * size[0] * size[1] * size[2]).view(2, *size)
    with torch.inference_mode():
        if not torch.equal(one.eval()(x), two.eval()(x)):
            raise CheckpointError(f"{repo_id} gives back a network with other logits than the one that was sent")
