"""Options that several commands share, the types of their values, and what they name, loaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from robust_hub.cli.completion import complete_data, complete_model
from robust_hub.cli.output import is_main

if TYPE_CHECKING:
    from torch import nn

    from robust_hub.images.data import ImageData

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between, such as 0.25,0.5; a mistake is a ValueError, which the group words."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Split and convert."""
        if not isinstance(value, str):
            return tuple(value)
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            raise ValueError(f"expected numbers with commas between, such as 0.25,0.5, got {value!r}") from None


class NamedFolder(click.ParamType[tuple[str, str]]):
    """NAME=FOLDER; a mistake is a ValueError, which the group words."""

    name = "pair"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split at the first sign of equality."""
        if not isinstance(value, str):
            return tuple(value)
        name, sign, folder = value.partition("=")
        if not (name and sign and folder):
            raise ValueError(f"expected --data NAME=FOLDER, such as cifar10=data/cifar10, got {value!r}")
        return name, folder


class Folder(click.Path):
    """A path for which a shell offers folders."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.name = "folder"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Have the shell offer its folders."""
        return [CompletionItem(incomplete, type="dir")]


NUMBERS = Numbers()
NAMED_FOLDER = NamedFolder()
FOLDER = Folder(path_type=Path)
FILE = click.Path(path_type=Path)
FILE.name = "file"
DTYPE = click.Choice(["float32", "bfloat16", "float16"])


def stack(*options: Decorator[Any]) -> Decorator[Any]:
    """Make one decorator of several options, which help shows in the same order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


model_option = partial(
    click.option,
    "--model",
    metavar="MODEL",
    help="Name of a checkpoint (see robust-hub models), its folder, or a network of timm.",
    shell_complete=complete_model,
)
_of_data = (
    click.option("--image-column", help="Column of the images, where the data have several."),
    click.option("--label-column", help="Column of the labels, where the data have several."),
    click.option(
        "--layout", help="How a folder keeps its images, where that is in doubt: classes, splits, metadata ..."
    ),
    click.option("--size", type=int, help="Resize and crop images to this many pixels [default: the network's own]."),
    click.option("--num-workers", type=int, help="Processes that decode images [default: one a CPU]."),
)
training_options = stack(
    click.option("--split", default="train", show_default=True, help="Split of the data."),
    click.option(
        "--out", type=FOLDER, required=True, help="Folder for the checkpoint and its log; the same command resumes."
    ),
    click.option("--momentum", default=0.9, show_default=True, help="Momentum of the optimizer."),
    click.option("--optimizer", default="sgd", show_default=True, help="Optimizer, by timm's name."),
    click.option(
        "--label-smoothing", default=0.0, show_default=True, help="Share of each label that is spread over all classes."
    ),
    click.option(
        "--mixed-precision",
        type=click.Choice(["no", "bf16", "fp16"]),
        default="no",
        show_default=True,
        help="Type of the arithmetic, where the device is faster in it; weights stay float32.",
    ),
    click.option("--compile", is_flag=True, help="Compile the network's blocks: slow first steps, faster ones then."),
    click.option("--fast-norm", is_flag=True, help="Norms in the type of mixed precision, not in float32."),
    click.option("--save-every", default=60.0, show_default=True, help="Seconds between saved states."),
    click.option("--seed", default=0, show_default=True, help="Seed of everything random in training."),
    click.option("--quiet", is_flag=True, help="No progress bar."),
)
test_split_option = click.option(
    "--split",
    help="Split of the data [default: test, else validation, else the part that training held out].",
)
compile_option = click.option(
    "--compile", "compiled", is_flag=True, help="Compile the network: seconds of building, faster batches."
)
namespace_option = click.option(
    "--namespace",
    envvar="ROBUST_HUB_NAMESPACE",
    help="User or organisation on the Hub [env: ROBUST_HUB_NAMESPACE].",
)


def data_options(*, required: bool = True) -> Decorator[Any]:
    """Give --data and the options that say how data are read."""
    what = "digits, an image folder, a folder or Hub id of datasets, torch/cifar10 ..."
    return stack(click.option("--data", required=required, help=what, shell_complete=complete_data), *_of_data)


def load_to_train(
    *, seed: int, learning_rate: tuple[float, ...] | None, quiet: bool, **options: Any
) -> tuple[nn.Module, ImageData, dict[str, Any]]:
    """Load model and data of a training, and give the keywords of the function that trains."""
    import torch

    torch.manual_seed(seed)  # of weights that are not pretrained
    model, data, rest = load(progress=not quiet, **options)
    rate = learning_rate if learning_rate is None or len(learning_rate) > 1 else learning_rate[0]
    return model, data, {**rest, "seed": seed, "learning_rate": rate, "progress": not quiet}


def load_to_certify(
    *, dtype: str, compiled: bool = False, **options: Any
) -> tuple[nn.Module, ImageData, dict[str, Any]]:
    """Load data and a network, on the device, in the type, layout and form to certify it in, and give what is left."""
    import torch
    from accelerate import PartialState

    from robust_hub.certification.compiling import compile_network

    model, data, rest = load(in_memory=False, **options)  # of which a part is decoded, once it is known
    device = PartialState(cpu=not torch.accelerator.is_available()).device  # this process's, where there are several
    device = device if device.type == "cuda" else torch.device("cpu")
    model = model.to(device, getattr(torch, dtype), memory_format=torch.channels_last)  # type: ignore[call-overload]
    return compile_network(model) if compiled else model, data, rest


def load(
    *,
    model: str,
    data: str,
    split: str | None,
    image_column: str | None,
    label_column: str | None,
    layout: str | None,
    size: int | None,
    num_workers: int | None = None,
    in_memory: bool | None = None,
    progress: bool = True,
    whole: bool = False,
    **rest: Any,
) -> tuple[nn.Module, ImageData, dict[str, Any]]:
    """Load a network and data, at the network's size unless another is said, and give what is left.

    Without a split they are what is to be certified. `whole` leaves images larger than the network's size as they are,
    for a training on parts of them. A `val` of None becomes what judges a training on the data.
    """
    from functools import partial

    from robust_hub.bars import hiding_bars
    from robust_hub.certification.parts import find_part
    from robust_hub.images.data import load_data
    from robust_hub.images.pixels import channels_of
    from robust_hub.models.resnets import load_model
    from robust_hub.models.sizes import at_size_of, own_size, say_resized

    network = load_model(model)
    columns: dict[str, Any] = {"image_column": image_column, "label_column": label_column, "layout": layout}
    read: Any = partial(
        load_data,
        data,
        size=size,
        usual_size=None if whole else own_size(network),
        channels=channels_of(network),
        num_workers=num_workers,
        in_memory=in_memory,
        progress=progress and is_main(),
        **columns,
    )
    with hiding_bars(not progress):
        images = find_part(network, data, read, **columns) if split is None else read(split)
        say_resized(images)
        if "val" in rest and rest["val"] is None:
            from robust_hub.training.apart import validation_of

            rest["val"] = validation_of(images, data, partial(read, **at_size_of(images)), **columns)
    return network, images, rest
