"""An experiment: a row of a table at a scale, its three folders, and what is asked of what lies in them.

Files of an experiment's folder, in a part of the scale's own, each shared by all rows that need it::

    pretrained/<norm>_<sigmas>/                 a checkpoint
    tuned/<row>/                                a checkpoint
    certified/<row>/sigma_<sigma>/              records.tsv, run.json
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_hub.evidence.records import Run
from robust_hub.guarantee.plans import make_plan
from robust_hub.paper.rows import Row, Scale
from robust_hub.provenance import CLEAN, Provenance
from robust_hub.training import finetune, pretrain
from robust_hub.training.sameness import Training, difference

PRETRAIN = {
    "epochs": pretrain.EPOCHS,
    "learning_rate": pretrain.LEARNING_RATE,
    "weight_decay": pretrain.WEIGHT_DECAY,
}
FINETUNE = {
    "epochs": finetune.EPOCHS,
    "learning_rate": finetune.LEARNING_RATE,
    "weight_decay": finetune.WEIGHT_DECAY,
}
EVERY = 20  # of the test images, the paper's 500 of 10,000
_PLAN = ("n0", "n", "alpha", "bound", "radii")


@dataclass(frozen=True)
class Experiment:
    """A row at a scale, in a folder or on the shelf alone.

    Attributes:
        row: The row.
        scale: The scale.
        out: Folder of the experiments, with a part for each scale; None of what only the shelf has records of.
    """

    row: Row
    scale: Scale
    out: Path | None = None

    @property
    def architecture(self) -> str:
        """Name of the network, without weights."""
        return f"{self.scale.depth}_{self.row.norm}"

    @property
    def data(self) -> tuple[str, ...]:
        """Names of the data sets trained on, that of the last training first."""
        return (self.row.dataset,) if self.row.pretrained is None else (self.row.dataset, self.scale.pretraining)

    @property
    def pretrained_folder(self) -> Path:
        """Folder of the pretraining's checkpoint."""
        return self._home / "pretrained" / self.row.pretraining_name

    @property
    def tuned_folder(self) -> Path:
        """Folder of the checkpoint that is certified."""
        return self._home / "tuned" / self.row.name

    def certified_folder(self, sigma: float) -> Path:
        """Give the folder of the run at a sigma, [0, 1]-pixel units."""
        return self._home / "certified" / self.row.name / f"sigma_{sigma:g}"

    @property
    def _home(self) -> Path:
        assert self.out is not None, "an experiment on the shelf alone has no folders"
        return self.out / self.scale.name

    @property
    def asked_pretraining(self) -> Training:
        """The pretraining that is asked for; only of a row that has one."""
        assert self.row.pretrained is not None, "a row from scratch has no pretraining"
        return Training.asked("pretrain", self.row.pretrained, **{**PRETRAIN, **self.scale.pretrain})

    @property
    def asked_training(self) -> Training:
        """The training on the row's own data that is asked for."""
        row, scale = self.row, self.scale
        if row.pretrained is None:
            return Training.asked("pretrain", row.tuned, **{**PRETRAIN, **scale.scratch})
        options = {**FINETUNE, **(scale.head if row.head_only else scale.tune)}
        if row.long:
            options |= {**scale.long, **scale.few.get(row.dataset, {})}
        if row.tuned != CLEAN and not row.head_only:
            options |= scale.noisy
        return Training.asked("finetune", row.tuned, head_only=row.head_only, **options)

    @property
    def asked_certification(self) -> dict[str, Any]:
        """What the identity of a run must say."""
        certify = dict(self.scale.certify)
        plan = make_plan(None, **{name: certify.pop(name, None) for name in _PLAN})
        certify.pop("batch_size", None)
        return {**plan.describe(), "every": EVERY, **certify, "dtype": self.scale.dtype}

    def pretraining_difference(self, provenance: Provenance | None) -> str:
        """Say in what a pretraining differs from the one that is asked for, in words; empty if in nothing."""
        words = _difference(provenance, self.asked_pretraining)
        return f"a pretraining with {words}" if words else ""

    def training_difference(self, provenance: Provenance | None) -> str:
        """Say in what a network's training differs from what is asked for, its pretraining included.

        Args:
            provenance: How the network's weights came about.

        Returns:
            The first difference in words; empty if there is none.
        """
        words = _difference(provenance, self.asked_training)
        if words or self.row.pretrained is None:
            return words
        return self.pretraining_difference(None if provenance is None else provenance.base)

    def certification_difference(self, run: Run) -> str:
        """Say in what a run differs from what is asked for, in words; empty if in nothing.

        The training is compared where the run says how its network was trained.
        """
        for name, value in self.asked_certification.items():
            if run.identity.get(name) != value:
                return f"{name} {run.identity.get(name)}, not {value}"
        return "" if run.provenance is None else self.training_difference(run.provenance)

    def not_as_asked(self, part: str | Path, words: str) -> ValueError:
        """Give the error that a part was not made as the scale says.

        Args:
            part: Its folder, or its name on the shelf.
            words: What it was made with or from.
        """
        return ValueError(
            f"expected {part} to be made as scale {self.scale.name} says, got {words}: remove it and what was made "
            "from it (pretrained, tuned, certified), or name another folder"
        )


def _difference(provenance: Provenance | None, asked: Training) -> str:
    """Say in what a recorded training differs from the one that is asked for."""
    if provenance is None:
        return f"job None, not {asked.job}"
    defaults = PRETRAIN if asked.job == "pretrain" else FINETUNE
    try:
        return difference(Training.recorded(provenance, defaults), asked)
    except (TypeError, ValueError) as error:
        return f"options that no training has ({error})"
