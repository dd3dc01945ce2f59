"""How weights came about, and which code made something: versions of the packages, commit of this one.

A module that was trained or loaded carries its provenance with it, so that what is made from it can say where it
started: `provenance_of` reads it, `note_provenance` writes it. It is a value of ours on a user's module, plain
JSON in the attribute `robust_hub_provenance`, so that a pickled module needs no robust_hub to be read.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

CLEAN = (0.0,)  # sigmas of a training without noise
# Options of training that a provenance names where they are not the job's defaults; epochs and others have fields.
OPTIONS = (
    *("mean", "std", "batch_size", "momentum", "optimizer", "label_smoothing", "warmup", "augment"),
    *("mixed_precision", "compile", "fast_norm", "holdout", "view_size", "view_count"),
    "judge_sigma",
)
_JSON_NAMES = {"data_hash": "fingerprint"}  # where config.json and run.json have another word than we have
_TUPLES = ("sigmas", "weights", "trained_on", "history")
_ATTRIBUTE = "robust_hub_provenance"
PACKAGES = ("robust-hub", "torch", "timm", "numpy", "scipy", "accelerate")
_HERE = Path(__file__).resolve()


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How weights came about; None is what was not recorded.

    Attributes:
        architecture: timm's name of the network; said of weights that another training started from.
        job: "pretrain" or "finetune".
        head_only: Whether the classifier alone was fine-tuned.
        pretrained: Hash of the features that a fine-tuning started from.
        head_scale: Factor on the classifier's learning rate, where it was not 1.
        sigmas: Sigmas of the noise mixture, [0, 1]-pixel units; None of a fine-tuning on clean images.
        weights: Weights of the sigmas; None of equal ones.
        epochs: Passes over the data.
        weight_decay: Weight decay.
        seed: Seed of everything random.
        options: Further options, named as in `OPTIONS`; what is not named was the job's default.
        learning_rate: The peak learning rate, the chosen one of several.
        held_out_accuracy: Accuracy by which it was chosen of several.
        data: Name or folder of the training data.
        split: Split of the data.
        images: Number of images.
        data_hash: sha256 of images and labels.
        trained_on: The images, of many a sample, by their content; see `robust_hub.images.content`.
        held_out: Images kept apart: their split, what they are by content where they were held out of the training
            data (`robust_hub.images.held_out`), and what the network got right of them.
        versions: Versions of the packages.
        commit: Commit of robust_hub.
        base: The provenance of the weights that the training started from.
        history: One row an epoch; left out of a base.
        notes: Whatever else was noted, JSON values.
    """

    architecture: str | None = None
    job: str | None = None
    head_only: bool | None = None
    pretrained: str | None = None
    head_scale: float | None = None
    sigmas: tuple[float, ...] | None = None
    weights: tuple[float, ...] | None = None
    epochs: int | None = None
    weight_decay: float | None = None
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float | None = None
    held_out_accuracy: float | None = None
    data: str | None = None
    split: str | None = None
    images: int | None = None
    data_hash: str | None = None
    trained_on: tuple[str, ...] | None = None
    held_out: Mapping[str, Any] | None = None
    versions: Mapping[str, str] | None = None
    commit: str | None = None
    base: Provenance | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Provenance | None:
        """Read what `to_json` gave; None if nothing was recorded.

        Raises:
            ValueError: If the values are none of a provenance.
        """
        if not values:
            return None
        try:
            rest = dict(values)
            own = {one.name: rest.pop(_JSON_NAMES.get(one.name, one.name), None) for one in fields(cls)}
            own = {name: value for name, value in own.items() if value is not None}
            own |= {name: tuple(own[name]) for name in _TUPLES if name in own}
            own["options"] = {name: rest.pop(name) for name in list(rest) if name in OPTIONS}
            if "base" in own:
                own["base"] = cls.from_json(own["base"])
            return cls(**{**own, "notes": rest})
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"expected how weights came about, got {str(values)[:60]} ({error})") from None

    def to_json(self) -> dict[str, Any]:
        """Give JSON values, as config.json and run.json keep them under "recipe"."""
        values: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name in ("options", "notes"):
                values |= value
            elif one.name == "base":
                values |= {"base": value.to_json()} if value is not None else {}
            elif one.name == "history":
                values |= {"history": [dict(row) for row in value]} if value else {}
            elif value is not None or self._says_none(one.name):
                values[_JSON_NAMES.get(one.name, one.name)] = list(value) if isinstance(value, tuple) else value
        return values

    def _says_none(self, name: str) -> bool:
        """Tell whether None is itself an answer: equal weights, no choice among learning rates."""
        if name == "weights":
            return self.sigmas is not None
        return name == "held_out_accuracy" and self.learning_rate is not None

    @property
    def largest_sigma(self) -> float:
        """The largest sigma that was trained on, 0 without noise."""
        return max(self.sigmas or CLEAN)

    def lineage(self) -> Iterator[Provenance]:
        """Go from this training through those that it started from."""
        one: Provenance | None = self
        while one is not None:
            yield one
            one = one.base

    def as_base(self, architecture: str) -> Provenance:
        """Give it as the start of another training: with the network's name, epoch by epoch aside."""
        return replace(self, architecture=architecture, history=())


def summary(provenance: Provenance | None) -> str:
    """Word a training: job, data, epochs and noise, such as "fine-tuned on cifar10, 1 epoch"."""
    if provenance is None:
        return "unknown"
    if provenance.job is None and "saved_by" in provenance.notes:
        return f"trained elsewhere and saved by {provenance.notes['saved_by']}"
    job = {"pretrain": "pretrained", "finetune": "fine-tuned"}.get(str(provenance.job), "trained")
    sigmas = provenance.sigmas or CLEAN
    noise = "" if sigmas == CLEAN else f", sigma {' '.join(f'{sigma:g}' for sigma in sigmas)}"
    head = "head " if provenance.head_only else ""
    length = f"{provenance.epochs} epoch{'' if provenance.epochs == 1 else 's'}"
    return f"{head}{job} on {Path(str(provenance.data)).name}, {length}{noise}"


def note_provenance(model: object, provenance: Provenance | None) -> None:
    """Have a module carry how its weights came about; None forgets it."""
    vars(model).pop(_ATTRIBUTE, None)
    if provenance is not None:
        setattr(model, _ATTRIBUTE, provenance.to_json())


def provenance_of(model: object) -> Provenance | None:
    """Read how a module's weights came about; None where it does not say."""
    values = getattr(model, _ATTRIBUTE, None)
    return Provenance.from_json(values) if isinstance(values, Mapping) else None


def versions() -> dict[str, str]:
    """Give the version of Python and of each package that results depend on, where it is installed."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


@cache
def commit() -> str | None:
    """Give the commit of this package's code, with "-dirty" where tracked files differ from it.

    Returns:
        40 hex digits from the source tree that it runs in or the repository that it was installed from; None of a
        package from an index.
    """
    where = ["git", "-C", str(_HERE.parent)]
    try:  # a package in a virtual environment is not the repository that the environment lies in
        subprocess.run([*where, "ls-files", "--error-unmatch", _HERE.name], check=True, capture_output=True)
        described = subprocess.run(
            [*where, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            check=True,
            capture_output=True,
            text=True,
        )
        return described.stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return _installed_from()


def _installed_from() -> str | None:
    """Give the commit that pip noted when it installed from a repository."""
    try:
        note = importlib.metadata.distribution("robust-hub").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    commit_id = json.loads(note or "{}").get("vcs_info", {}).get("commit_id")
    return str(commit_id) if commit_id else None
