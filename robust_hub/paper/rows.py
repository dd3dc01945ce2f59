"""What an experiment is made of, as data: the row of a table, the table, and the scale that the row is run at.

The rows themselves, with the paper's numbers, are in `robust_hub.paper.tables`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from robust_hub.guarantee.plans import RADII
from robust_hub.names import did_you_mean

T = TypeVar("T")
Sigmas = tuple[float, ...]
CLEAN: Sigmas = (0.0,)
MIXED: Sigmas = (0.0, 0.25, 0.5, 1.0)
SIGMAS = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Row:
    """One row of a table: a network's training and the paper's result.

    Attributes:
        label: The row's name.
        dataset: What is fine-tuned and certified on, a key of the data that the user names.
        tuned: Sigmas of the fine-tuning, or of the whole training where nothing is pretrained.
        pretrained: Sigmas of the pretraining; None trains from scratch.
        norm: Norm of the network.
        head_only: Whether only the classifier is fine-tuned.
        long: Whether fine-tuning lasts many epochs; otherwise one.
        paper: Clean accuracy and certified accuracies as the paper prints them; empty if it does not.
    """

    label: str
    dataset: str
    tuned: Sigmas
    pretrained: Sigmas | None = None
    norm: str = "ln"
    head_only: bool = False
    long: bool = False
    paper: str = ""

    @property
    def name(self) -> str:
        """Name of the row's folders; rows that train the same have the same name, in whatever table they are."""
        before = "scratch" if self.pretrained is None else _join(self.pretrained)
        kind = ("head" if self.head_only else "full") + ("_long" if self.long else "")
        return f"{self.dataset}_{self.norm}_{before}_then_{_join(self.tuned)}_{kind}"

    @property
    def pretraining_name(self) -> str:
        """Name of the folder of the row's pretraining, which all rows of its norm and sigmas share."""
        return f"{self.norm}_{_join(self.pretrained or ())}"

    @property
    def paper_clean(self) -> float | None:
        """The paper's clean accuracy in percent."""
        number = re.match(r"[\d.]+", self.paper)
        return float(number.group()) if number else None

    @property
    def paper_certified(self) -> tuple[tuple[float | None, float], ...]:
        """The paper's (certified accuracy at 0, certified accuracy), in percent, at the table's radii in turn."""
        cells = re.findall(r"(?:\(([\d.]+)\))?([\d.]+)", self.paper.partition("|")[2])
        return tuple((float(at_zero) if at_zero else None, float(value)) for at_zero, value in cells)


@dataclass(frozen=True)
class Table:
    """A table or figure of the paper.

    Attributes:
        name: "table6", "figure2"...
        title: What it compares.
        rows: Its rows, or curves.
        radii: Radii of its columns, l2 in [0, 1]-pixel units.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    radii: tuple[float, ...] = RADII

    def label(self, row: Row) -> str:
        """Give a row's name in this table: with its data set, where the rows are of several."""
        return row.label if len({one.dataset for one in self.rows}) == 1 else f"{row.dataset}, {row.label}"


@dataclass(frozen=True)
class Scale:
    """How large an experiment is: network, budget and options of every job.

    Options of trainings are keywords of `Options`; mean and std are always the network's.

    Attributes:
        name: "small", "small42", "h200" or "paper".
        title: The scale in words, for the title of a table.
        depth: Network without its norm, such as "resnet152".
        pretraining: Data of the pretraining, a key of the data that the user names.
        pretrain: Options of `pretrain_mixed_noise`.
        scratch: Options of training from scratch on the fine-tuning data.
        tune: Options of fine-tuning the full network.
        head: Options of fine-tuning the classifier only.
        long: Options that replace those of `tune` and `head` in rows of many epochs.
        noisy: Options that replace those of `tune` in rows that are fine-tuned on noise.
        few: Options that replace those of `long` on data sets of few images, by the data set's name.
        certify: Options of `certify`.
        dtype: Type of the certified network.
        shelf: Names of pretrainings that the shelf or the Hub may have, by (norm, sigmas).
    """

    name: str
    title: str
    depth: str
    pretraining: str
    pretrain: Mapping[str, Any]
    scratch: Mapping[str, Any]
    tune: Mapping[str, Any]
    head: Mapping[str, Any]
    long: Mapping[str, Any]
    certify: Mapping[str, Any]
    noisy: Mapping[str, Any] = field(default_factory=dict)
    few: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dtype: str = "float32"
    shelf: Mapping[tuple[str, Sigmas], str] = field(default_factory=dict)


_GRID = (0.0, *RADII)
_NMUON = {"optimizer": "nmuon", "momentum": 0.95, "weight_decay": 0.05, "mixed_precision": "bf16"}
_SMALL = Scale(
    "small",
    "resnet18s at 32x32, Tiny-ImageNet, 14 epochs",
    "resnet18s",
    "tiny-imagenet-32",
    pretrain={**_NMUON, "epochs": 14, "learning_rate": 0.008, "batch_size": 256},
    scratch={**_NMUON, "epochs": 15, "learning_rate": 0.008, "batch_size": 256},
    tune={"epochs": 1, "learning_rate": 0.001, "head_scale": 300.0, "mixed_precision": "bf16"},
    head={"epochs": 1, "learning_rate": 0.3, "mixed_precision": "bf16"},
    long={"epochs": 5, "learning_rate": 0.0003, "head_scale": 1000.0},
    noisy={"learning_rate": 0.3, "head_scale": 1.0},
    few={"flowers102": {"epochs": 100}},  # of 1,020 images, about as many steps as two epochs of CIFAR-10
    certify={"every": 20, "n": 10_000, "radii": _GRID},
    dtype="bfloat16",
    shelf={
        **{(norm, MIXED): f"resnet18s_{norm}_mixednoise" for norm in ("bn", "gn", "in", "ln")},
        ("ln", CLEAN): "resnet18s_ln.clean_tin",
        **{("ln", (sigma,)): f"resnet18s_ln.noise{sigma:g}_tin" for sigma in SIGMAS},
    },
)
# The same network and the same fine-tunings after three times the pretraining.
_SMALL_42 = replace(
    _SMALL,
    name="small42",
    title="resnet18s at 32x32, Tiny-ImageNet, 42 epochs",
    pretrain={**_SMALL.pretrain, "epochs": 42},
    shelf={(norm, MIXED): f"resnet18s_{norm}_mixednoise.tin_e42" for norm in ("bn", "ln")},
)
SCALES: dict[str, Scale] = {
    scale.name: scale
    for scale in (
        _SMALL,
        _SMALL_42,
        Scale(
            "h200",
            "resnet152 at 32x32, 284 ImageNet classes, 18 minutes of one H200, one epoch of fine-tuning in every row",
            "resnet152",
            "imagenet284-64-views9",
            pretrain={**_NMUON, "epochs": 4, "learning_rate": 0.012, "batch_size": 1024, "warmup": 0.05},
            scratch={**_NMUON, "epochs": 30, "learning_rate": 0.012, "batch_size": 1024, "warmup": 0.05},
            tune={"epochs": 1, "learning_rate": 0.001, "head_scale": 300.0, "mixed_precision": "bf16"},
            head={"epochs": 1, "learning_rate": 0.3, "mixed_precision": "bf16"},
            long={},
            noisy={"learning_rate": 0.3, "head_scale": 1.0},
            certify={"every": 20, "n": 10_000, "radii": _GRID, "batch_size": 2048},
            dtype="bfloat16",
            shelf={("ln", MIXED): "resnet152_ln_mixednoise"},
        ),
        Scale(
            "paper",
            "resnet152 at 32x32, ImageNet-32, 100 epochs, best of three learning rates",
            "resnet152",
            "imagenet32",
            pretrain={"epochs": 100, "learning_rate": (0.1, 0.01, 0.001), "mixed_precision": "bf16"},
            scratch={"epochs": 100, "learning_rate": (0.1, 0.01, 0.001), "mixed_precision": "bf16"},
            tune={"epochs": 1, "learning_rate": (0.1, 0.01, 0.001), "mixed_precision": "bf16"},
            head={"epochs": 1, "learning_rate": (0.1, 0.01, 0.001), "mixed_precision": "bf16"},
            long={"epochs": 100},
            certify={"every": 20, "n": 100_000, "batch_size": 2048},
            dtype="bfloat16",
        ),
    )
}


def find_scale(name: str) -> Scale:
    """Find a scale by its name.

    Raises:
        ValueError: If there is none; the near names are offered.
    """
    return find_by_name("scale", name, SCALES)


def find_by_name(what: str, name: str, choices: Mapping[str, T]) -> T:
    """Look a name up.

    Raises:
        ValueError: If it is unknown; the near names are offered.
    """
    if name not in choices:
        near = did_you_mean(name, choices, choices)
        raise ValueError(f"expected a {what} among {', '.join(choices)}, got {name!r}: {near}")
    return choices[name]


def _join(sigmas: Sigmas) -> str:
    """Give sigmas as a part of a folder's name."""
    return "-".join(f"{sigma:g}" for sigma in sigmas)
