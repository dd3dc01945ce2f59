"""What config.json of a checkpoint's folder says, as a value; the file itself is in timm's form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from robust_hub.errors import CheckpointError
from robust_hub.files import inside
from robust_hub.layout import CONFIG, WEIGHTS
from robust_hub.models import bounds
from robust_hub.models.labels import FIELD, check_label_names
from robust_hub.models.recipe import check_recipe, printable
from robust_hub.models.shelves import is_name
from robust_hub.parsing import MOST_BYTES, read_bounded_json, shown
from robust_hub.provenance import Provenance

LICENSE = "license"
_AGAIN = "fetch or train the checkpoint again"


@dataclass(frozen=True)
class Difference:
    """What a difference that is stored in place of weights is read with.

    Attributes:
        base: Name of the checkpoint that it is a difference to.
        base_sha256: That checkpoint's files of weights and their hashes.
        sha256: Hash of the difference's file.
    """

    base: str
    base_sha256: Mapping[str, str]
    sha256: str


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """What a checkpoint is.

    Attributes:
        architecture: timm's name of the network, in our words: one that plain timm can make has its own as well.
        num_classes: Outputs of the classifier.
        num_features: Features before the classifier.
        model_args: Arguments of `timm.create_model` beside the number of classes.
        pretrained_cfg: timm's: input_size, mean, std and the like.
        norm: Norm kind, "" of a network that is not ours.
        stem: Stem, likewise.
        sha256: Hash of each file of weights; none where another library wrote the folder.
        difference: What is stored in place of the weights; None if they are there.
        probe: What the network computes of two fixed images, see `robust_hub.models.identity.probe`.
        provenance: How the weights came about; None if that was not recorded.
        plain_timm: Name and arguments with which timm alone makes the network; None where it cannot.
        label_names: Names of the classifier's outputs, in their order; None if they are not known.
        license: The Hub's id of the licence that its makers chose for the weights; None if they chose none.
    """

    architecture: str
    num_classes: int
    num_features: int = 0
    model_args: Mapping[str, Any] = field(default_factory=dict)
    pretrained_cfg: Mapping[str, Any] = field(default_factory=dict)
    norm: str = ""
    stem: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)
    difference: Difference | None = None
    probe: Mapping[str, list[list[float]]] | None = None
    provenance: Provenance | None = None
    plain_timm: tuple[str, Mapping[str, Any]] | None = None
    label_names: tuple[str, ...] | None = None
    license: str | None = None

    @property
    def input_size(self) -> tuple[int, ...]:
        """Shape of an image, (C, H, W); empty if it is not said."""
        return tuple(self.pretrained_cfg.get("input_size") or ())

    def as_base(self) -> Provenance:
        """Give how the weights came about as the start of another training, with their licence."""
        start = (self.provenance or Provenance()).as_base(self.architecture)
        return replace(start, notes={**start.notes, LICENSE: self.license}) if self.license else start

    def to_json(self) -> dict[str, Any]:
        """Give the values of config.json."""
        ours = {"architecture": self.architecture, "model_args": dict(self.model_args)}
        name, args = self.plain_timm or (self.architecture, self.model_args)
        whole = set(self.sha256) == {WEIGHTS}
        return {
            "architecture": name,
            "num_classes": self.num_classes,
            "num_features": self.num_features,
            **({FIELD: list(self.label_names)} if self.label_names else {}),
            "model_args": dict(args),
            "pretrained_cfg": dict(self.pretrained_cfg),
            "robust_hub": {
                **(ours if self.plain_timm else {}),
                "norm": self.norm,
                "stem": self.stem,
                **({LICENSE: self.license} if self.license else {}),
                "sha256": self.sha256[WEIGHTS] if whole else dict(self.sha256),
                **({"difference": _difference_to_json(self.difference)} if self.difference else {}),
                "fingerprint": self.probe,
                "recipe": {} if self.provenance is None else printable(self.provenance.to_json()),
            },
        }


def read_config(folder: str | Path) -> CheckpointConfig:
    """Read a checkpoint folder's config.json, which anyone may have written.

    One without our part, as timm writes it, promises nothing of the weights: it has no hashes, norm and stem.

    Raises:
        CheckpointError: If it is missing or no JSON, lacks what a model is made from, or holds what no network is made
            with, see `robust_hub.models.bounds`.
    """
    path = Path(folder) / CONFIG
    if not path.exists():
        raise CheckpointError(f"expected a checkpoint folder with {CONFIG} and {WEIGHTS}, found no {path}")
    try:
        values = read_json(Path(folder), CONFIG)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): {_AGAIN}") from None
    needed = {"architecture": str, "num_classes": int, "pretrained_cfg": dict}
    needed |= {"robust_hub": dict} if "robust_hub" in values else {}
    if lacks := [name for name, kind in needed.items() if not isinstance(values.get(name), kind)]:
        raise CheckpointError(f"{path} names no {', no '.join(lacks)}: {_AGAIN}")
    try:
        return _from_json(values, values.get("robust_hub", {}))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} names {error}: {_AGAIN}") from None


def read_outline(folder: Path) -> dict[str, Any]:
    """Read what timm's listings say of a checkpoint: images and layers, number of classes and their names.

    A few lines of config.json, in a fraction of the time that all of it takes: it is done for each name of the shelves.

    Raises:
        CheckpointError: If they cannot be read.
    """
    try:
        values = read_json(folder, CONFIG)
        count = bounds.check_count("num_classes", values.get("num_classes"))
        cfg = as_timm(bounds.check_pretrained_cfg(values["pretrained_cfg"]))
        ours = values.get("robust_hub")
        told = bounds.check_license(ours.get(LICENSE)) if isinstance(ours, dict) else None
        return {**cfg, "num_classes": count, FIELD: _label_names(values, count), LICENSE: told}
    except (OSError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{folder / CONFIG} is damaged ({error}): {_AGAIN}") from None


def as_timm(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Give a pretrained_cfg as timm holds it, with tuples for JSON's lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in cfg.items()}


def _label_names(values: Mapping[str, Any], count: int) -> tuple[str, ...] | None:
    """Take timm's names of the outputs, which stand beside its pretrained_cfg or in it."""
    return check_label_names(values.get(FIELD) or values["pretrained_cfg"].get(FIELD), count)


def read_json(folder: Path, name: str, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Read an object of JSON in a checkpoint's folder, within limits.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it leads out of the folder, is too long or no such object.
    """
    with inside(folder, name).open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"more than {most_bytes:,} bytes")
    return read_bounded_json(content.decode(), name)


def _from_json(values: Mapping[str, Any], ours: Mapping[str, Any]) -> CheckpointConfig:
    """Take the values of config.json, those under "robust_hub" apart; a ValueError says what cannot be."""
    theirs = None
    if "architecture" in ours:
        theirs = (
            bounds.check_architecture(values["architecture"]),
            bounds.check_model_args(values.get("model_args") or {}),
        )
    count = bounds.check_count("num_classes", values["num_classes"])
    return CheckpointConfig(
        architecture=bounds.check_architecture(ours.get("architecture", values["architecture"])),
        num_classes=count,
        num_features=bounds.check_count("num_features", values.get("num_features") or 0),
        model_args=bounds.check_model_args(ours.get("model_args", values.get("model_args")) or {}),
        pretrained_cfg=bounds.check_pretrained_cfg(values["pretrained_cfg"]),
        norm=_kind("norm", ours.get("norm")),
        stem=_kind("stem", ours.get("stem")),
        sha256=_hashes(ours.get("sha256")) if "robust_hub" in values else {},
        difference=_difference_from_json(ours.get("difference")),
        probe=bounds.check_probe(ours.get("fingerprint")),
        provenance=Provenance.from_json(check_recipe(ours.get("recipe"))),
        plain_timm=theirs,
        label_names=_label_names(values, count),
        license=bounds.check_license(ours.get(LICENSE)),
    )


def _kind(what: str, value: Any) -> str:
    if value in (None, ""):
        return ""
    if not isinstance(value, str) or not is_name(value):
        raise ValueError(f"the {what} {shown(repr(value), 60)}, expected its name")
    return value


def _hashes(values: Any) -> dict[str, str]:
    """Give the files of weights with their hashes; names that lead out of the folder are refused."""
    files = values if isinstance(values, dict) else {WEIGHTS: values}
    if not files:
        raise ValueError("no files of weights")
    return {bounds.check_file(name): bounds.check_hash(digest) for name, digest in files.items()}


def _difference_from_json(values: Any) -> Difference | None:
    if values is None:
        return None
    kinds = {"base": str, "base_sha256": dict, "sha256": str}
    if not isinstance(values, dict) or any(not isinstance(values.get(k), kind) for k, kind in kinds.items()):
        raise ValueError("no base of its difference")
    if not is_name(values["base"]):
        raise ValueError(f"the base {shown(repr(values['base']), 60)} of its difference, expected a checkpoint's name")
    return Difference(values["base"], _hashes(values["base_sha256"]), bounds.check_hash(values["sha256"]))


def _difference_to_json(difference: Difference) -> dict[str, Any]:
    return {
        "base": difference.base,
        "base_sha256": dict(difference.base_sha256),
        "sha256": difference.sha256,
    }
