"""Whether two trainings are the same: the one that is asked for, and the one that weights were made by.

A `Training` is what decides the weights beside data and start; two of them are compared with `==`, and `difference`
words in what they differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from robust_hub.provenance import CLEAN, Provenance
from robust_hub.training.options import Options, plain, rates_of


@dataclass(frozen=True, kw_only=True)
class Training:
    """What decides the weights that a training gives, beside its data and the weights that it starts from.

    Attributes:
        job: "pretrain" or "finetune".
        sigmas: Sigmas of the noise mixture, [0, 1]-pixel units.
        head_only: Whether only the classifier is trained.
        head_scale: Factor on the learning rate of the classifier.
        options: The options.
        chosen: Whether the learning rate is the best of several on held-out images.
    """

    job: str
    sigmas: tuple[float, ...]
    options: Options
    head_only: bool = False
    head_scale: float = 1.0
    chosen: bool = False

    @classmethod
    def asked(
        cls, job: str, sigmas: Sequence[float], *, head_only: bool = False, head_scale: float = 1.0, **options: Any
    ) -> Training:
        """Give the training that keywords of a job ask for, its defaults included; see `Options.of`."""
        rates = rates_of(options.pop("learning_rate"))
        options = {name: value for name, value in options.items() if name not in ("mean", "std")}  # of the data
        built = Options(mean=(), std=(), learning_rate=rates, **options)
        return cls(
            job=job,
            sigmas=tuple(sigmas),
            options=built,
            head_only=head_only,
            head_scale=head_scale,
            chosen=len(rates) > 1,
        )

    @classmethod
    def recorded(cls, provenance: Provenance, defaults: Mapping[str, Any]) -> Training:
        """Give the training that a provenance records.

        Args:
            provenance: How the weights came about.
            defaults: epochs, learning_rate and weight_decay where it does not say them.

        Raises:
            ValueError: If it records no training that there can be.
            TypeError: Likewise.
        """
        values = {name: getattr(provenance, name) for name in ("epochs", "weight_decay", "seed", "learning_rate")}
        options = {**defaults, **{name: value for name, value in values.items() if value is not None}}
        training = cls.asked(
            str(provenance.job),
            provenance.sigmas or CLEAN,
            head_only=bool(provenance.head_only),
            head_scale=1.0 if provenance.head_scale is None else provenance.head_scale,
            **{**options, **provenance.options},
        )
        return training.of_rate(training.options.learning_rate, provenance.held_out_accuracy is not None)

    def of_rate(self, rates: tuple[float, ...], chosen: bool) -> Training:
        """Give the same training with another learning rate."""
        return replace(self, options=replace(self.options, learning_rate=rates), chosen=chosen)


_COMPARED = {one.name for one in fields(Options) if one.compare}


def difference(have: Training, asked: Training) -> str:
    """Say in what a training differs from the one that is asked for, in words; empty if in nothing."""
    rates = asked.options.learning_rate
    if have.options.learning_rate[0] in rates:  # one that was chosen stands for all that were tried
        asked = asked.of_rate(have.options.learning_rate, asked.chosen)
    if have == asked:
        return ""
    for name, value, other in _pairs(have, asked):
        if value != other and name != "learning_rate":
            return f"{name} {plain(value)}, not {plain(other)}"
    best = "the best of " if asked.chosen else ""
    return f"learning_rate {have.options.learning_rate[0]}, not {best}{', '.join(f'{rate:g}' for rate in rates)}"


def _pairs(have: Training, asked: Training) -> list[tuple[str, Any, Any]]:
    """Give name and values of everything that is compared, the learning rates aside."""
    names = ("job", "sigmas", "head_only", "head_scale")
    pairs = [(name, getattr(have, name), getattr(asked, name)) for name in names]
    return pairs + [(name, getattr(have.options, name), getattr(asked.options, name)) for name in sorted(_COMPARED)]
