"""The options of a training: built once at a public door, passed on and recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from timm.optim import list_optimizers  # type: ignore[attr-defined]
from torch import nn

from robust_hub.images.pixels import mean_std
from robust_hub.names import did_you_mean
from robust_hub.numbers import described, real_number, real_numbers, truth_value, whole_number
from robust_hub.provenance import OPTIONS

_WITHOUT_EFFECT = ("save_every", "num_workers", "progress")  # on the weights
# Settings that older trainings do not have: they are left out where they are off.
_LATER = ("compile", "fast_norm", "view_size", "view_count", "judge_sigma")
_RATES = "one or several different learning rates > 0"
# What is expected of an option, beginning with its name, and what takes it.
_RULES: list[tuple[str, Callable[..., float], dict[str, float]]] = [
    ("epochs >= 1", whole_number, {"least": 1}),
    ("batch_size >= 1", whole_number, {"least": 1}),
    ("momentum in [0, 1)", real_number, {"least": 0, "below": 1}),
    ("weight_decay >= 0", real_number, {"least": 0}),
    ("label_smoothing in [0, 1)", real_number, {"least": 0, "below": 1}),
    ("warmup in [0, 1]", real_number, {"least": 0, "most": 1}),
    ("save_every >= 0", real_number, {"least": 0}),
    ("seed to be a whole number of 64 bits", whole_number, {"least": -(2**63), "most": 2**63 - 1}),
    ("num_workers >= 0", whole_number, {"least": 0}),
    ("holdout in (0, 1)", real_number, {"above": 0, "below": 1}),
    ("view_size >= 1 pixel", whole_number, {"least": 1}),
    ("view_count >= 1 view of each image", whole_number, {"least": 1}),
    ("judge_sigma > 0", real_number, {"above": 0}),
]
_TRUTHS = ("augment", "compile", "fast_norm", "progress")
_OPTIONAL = ("warmup", "view_size", "view_count", "judge_sigma")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of one training.

    Attributes:
        epochs: Passes over the data.
        mean: Mean per channel, [0, 1] pixel units.
        std: Standard deviation per channel, likewise.
        learning_rate: The peak learning rates to try; the only one, or the best on held-out images is kept.
        batch_size: Images per step and process.
        momentum: Momentum of the optimizer.
        weight_decay: Weight decay; normalisation layers and biases have none.
        optimizer: A name of timm's optimizers; "sgd" is SGD with Nesterov momentum.
        label_smoothing: Label smoothing of the cross entropy, in [0, 1).
        warmup: Share of the steps for the linear warm-up, in [0, 1]. None: 10 epochs, or the first tenth of a training
            of fewer than 100.
        augment: Whether to crop and flip at random.
        save_every: Seconds between two saved states; every epoch's end saves one as well.
        seed: Seed of order, augmentation, corruption and dropout.
        mixed_precision: "no", "bf16" or "fp16".
        compile: Whether the network's blocks are compiled; weights then differ within rounding.
        fast_norm: Whether timm's norms compute in the type of mixed precision, not in float32.
        num_workers: Processes that read batches; 0 reads in this one.
        progress: Whether to show a progress bar.
        holdout: Share of the data that judges several learning rates, in (0, 1); unused for a single one.
        view_size: Side of the square, in pixels, that images are brought to by a random resized crop in each step, or
            whole where nothing is augmented. None: they are trained on at their own size.
        view_count: Views of that size of each image, the same in every epoch, in place of a new crop in each step; the
            first one is the whole image. None: no such views.
        judge_sigma: Sigma of the noise under which several learning rates are judged, [0, 1]-pixel units. None: under
            the corruption of training, so that a training on clean images is judged on clean ones.

    Raises:
        ValueError: If an option is outside its range.
    """

    epochs: int
    mean: tuple[float, ...] = field(compare=False)  # of the data
    std: tuple[float, ...] = field(compare=False)
    learning_rate: tuple[float, ...] = (0.1,)
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 5e-4
    optimizer: str = "sgd"
    label_smoothing: float = 0.0
    warmup: float | None = None
    augment: bool = True
    save_every: float = field(default=60.0, compare=False)
    seed: int = 0
    mixed_precision: str = "no"
    compile: bool = False
    fast_norm: bool = False
    num_workers: int = field(default=0, compare=False)
    progress: bool = field(default=True, compare=False)
    holdout: float = 0.1
    view_size: int | None = None
    view_count: int | None = None
    judge_sigma: float | None = None

    def __post_init__(self) -> None:
        rates = rates_of(self.learning_rate)
        if not rates or len(set(rates)) < len(rates):
            raise ValueError(f"expected {_RATES}, got {rates}")
        object.__setattr__(self, "learning_rate", rates)
        for rule, take, within in _RULES:
            self._put(rule.split()[0], partial(take, rule, **within))
        for name in _TRUTHS:
            self._put(name, partial(truth_value, name))
        if self.mixed_precision not in ("no", "bf16", "fp16"):
            got = described(self.mixed_precision)
            raise ValueError(f"expected mixed_precision among 'no', 'bf16', 'fp16', got {got}")
        if self.view_count is not None and self.view_size is None:
            raise ValueError("expected view_size of the views, got None")
        names = [str(name) for name in list_optimizers()]
        if not isinstance(self.optimizer, str):
            raise ValueError(f"expected the name of an optimizer of timm, got {described(self.optimizer)}")
        if self.optimizer.lower().removeprefix("lookahead_") not in names:
            hint = did_you_mean(self.optimizer, names, ["sgd", "adamw", "nmuon"])
            raise ValueError(f"expected an optimizer of timm, got {self.optimizer!r}: {hint}")

    def _put(self, name: str, take: Callable[[Any], Any]) -> None:
        """Put a plain value in the place of the one that was given; None stays where it is the default."""
        value = getattr(self, name)
        if value is not None or name not in _OPTIONAL:
            object.__setattr__(self, name, take(value))

    @classmethod
    def of(
        cls,
        model: nn.Module,
        *,
        learning_rate: float | Sequence[float] = 0.1,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **rest: Any,
    ) -> Options:
        """Build the options of a model's training.

        Args:
            model: The classifier.
            learning_rate: The peak learning rate, or several to choose from.
            mean: Mean per channel, [0, 1] pixel units. None: from the model's pretrained_cfg.
            std: Standard deviation per channel, likewise.
            rest: The further attributes.

        Raises:
            ValueError: If an option is outside its range, or neither caller nor model says mean and std.
            TypeError: If there is no such option.
        """
        centre, scale = mean_std(model, mean, std)
        return cls(mean=centre, std=scale, learning_rate=rates_of(learning_rate), **rest)

    def recorded(self, *, pixels: bool) -> dict[str, Any]:
        """Give the options that a provenance has no field for and that are not the defaults, as JSON values.

        Args:
            pixels: Whether mean and std were named, and are recorded.
        """
        defaults = {one.name: one.default for one in fields(self)}
        names = [n for n in OPTIONS if (pixels if n in ("mean", "std") else getattr(self, n) != defaults[n])]
        values = {name: getattr(self, name) for name in names}
        return {name: plain(value) for name, value in values.items()}

    def shape_of(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Give the shape (C, H, W) in which the network is given images of a shape."""
        return shape if self.view_size is None else (shape[0], self.view_size, self.view_size)

    def settings(self) -> dict[str, Any]:
        """Give what a resumed training must share, as JSON values."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in _WITHOUT_EFFECT}
        values["holdout"] = self.holdout if len(self.learning_rate) > 1 else None
        return {name: plain(value) for name, value in values.items() if name not in _LATER or value}


def plain(value: Any) -> Any:
    """Give a value as JSON has it, for a sentence."""
    return list(value) if isinstance(value, tuple) else value


def rates_of(learning_rate: float | Sequence[float]) -> tuple[float, ...]:
    """Give one or several learning rates as a tuple.

    Raises:
        ValueError: If one is no number above 0.
    """
    one = (
        isinstance(learning_rate, str)
        or not isinstance(learning_rate, Iterable)
        or not getattr(learning_rate, "ndim", 1)
    )
    return real_numbers(_RATES, (learning_rate,) if one else learning_rate, above=0)
