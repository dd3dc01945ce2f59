"""Commands that train: pretrain, finetune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robust_hub.cli.options import NUMBERS, data_options, load_to_train, model_option, training_options
from robust_hub.cli.output import emit, json_option, note
from robust_hub.layout import CONFIG

if TYPE_CHECKING:
    from robust_hub.training.train import TrainResult


@click.command()
@model_option(default="resnet18s_ln", show_default=True)
@data_options()
@training_options
@json_option
@click.option("--batch-size", default=128, show_default=True, help="Images a step and process.")
@click.option("--views", type=int, help="Fixed views of each image, in place of a new one each epoch.")
@click.option("--resize", type=int, help="Resize and crop images to this many pixels when read, before any view.")
@click.option(
    "--sigmas",
    type=NUMBERS,
    default="0,0.25,0.5,1.0",
    show_default=True,
    help="The noise mixture: standard deviations for pixels in [0, 1]; 0 is the clean image.",
)
@click.option("--epochs", default=100, show_default=True, help="Passes over the data.")
@click.option(
    "--learning-rate",
    type=NUMBERS,
    default="0.1",
    show_default=True,
    help="One, or several with commas: the best is kept.",
)
@click.option("--weight-decay", default=5e-4, show_default=True, help="Weight decay.")
def pretrain(sigmas: tuple[float, ...], size: int | None, resize: int | None, **options: Any) -> None:
    """Pretrain on a mixture of clean and noisy images; makes a checkpoint folder.

    Of images larger than --size, by default the network's input, each epoch sees a new random part.

    Example: robust-hub pretrain --model resnet18s_ln --data imagenet32/ --epochs 60 --out runs/mixed
    """
    from robust_hub.images.noise import NoiseMixture
    from robust_hub.training.pretrain import pretrain_mixed_noise

    model, data, rest = load_to_train(size=resize, whole=True, **options)
    finished = (rest["out"] / CONFIG).exists()
    result = pretrain_mixed_noise(model, data, mixture=NoiseMixture(sigmas), size=size, **rest)
    _report_training(result, rest["out"], finished)


@click.command()
@model_option(default="resnet18s_ln_mixednoise", show_default=True)
@data_options()
@training_options
@json_option
@click.option("--batch-size", type=int, help="Images a step and process [default: 128, of few images 32].")
@click.option(
    "--val",
    type=float,
    help="Share of every class that is held out of training and judges it, 0 for none [default: the validation split, "
    "or 0.1 of data with neither that nor a test split].",
)
@click.option(
    "--head-scale",
    type=float,
    help="Factor on the new classifier's learning rate [default: 1, or 300 without --learning-rate].",
)
@click.option("--head-only", is_flag=True, help="Train the classifier only, on fixed features.")
@click.option("--epochs", type=int, help="Passes over the data [default: what suits them; 1 with --learning-rate].")
@click.option(
    "--learning-rate",
    type=NUMBERS,
    help="One, or several with commas: the best is kept [default: what suits the data].",
)
@click.option("--weight-decay", default=0.0, show_default=True, help="Weight decay.")
def finetune(head_only: bool, **options: Any) -> None:
    """Fine-tune a pretrained model on clean images alone; makes a checkpoint folder to certify.

    Example: robust-hub finetune --data photos/ --out runs/photos
    """
    from robust_hub.training.finetune import finetune_clean

    model, data, rest = load_to_train(**options)
    finished = (rest["out"] / CONFIG).exists()
    result = finetune_clean(model, data, head_only=head_only, **rest)
    _report_training(result, rest["out"], finished)


def _report_training(result: TrainResult, out: Path, finished: bool) -> None:
    if finished:
        note(f"{out} was finished before: this is what it came to, nothing was trained anew")
    last = result.history[-1]
    epochs = f"{last['epoch']} epoch{'' if last['epoch'] == 1 else 's'}"
    emit(
        {
            "folder": out,
            "learning_rate": result.learning_rate,
            "held_out_accuracy": result.accuracy,
            "judged": None if result.judged is None else result.judged.to_json(),
            "history": result.history,
        },
        f"{out}: {epochs}, loss {last['loss']:.3f}, training accuracy {100 * last['accuracy']:.1f} %, "
        f"learning rate {result.learning_rate:g}",
    )
