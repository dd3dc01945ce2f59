"""Commands that certify, and time what things cost: certify, bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from robust_hub.cli.group import Commands
from robust_hub.cli.image import certify_images
from robust_hub.cli.options import (
    DTYPE,
    FILE,
    FOLDER,
    NUMBERS,
    compile_option,
    data_options,
    load,
    load_to_certify,
    model_option,
    test_split_option,
)
from robust_hub.cli.output import emit, is_main, json_option
from robust_hub.cli.tables import table_words
from robust_hub.files import replace_text


@click.command()
@click.argument("images", nargs=-1, type=FILE, metavar="[IMAGE]...")
@model_option(required=True)
@data_options(required=False)
@test_split_option
@click.option(
    "--sigma",
    "sigmas",
    type=NUMBERS,
    default="0.25",
    show_default=True,
    help="Standard deviation of the noise, for pixels in [0, 1]; several with commas: a run each [of an IMAGE "
    "0.25,0.5,1 where nothing is said].",
)
@click.option("--out", type=FOLDER, help="Folder for the records, a sub-folder a sigma; the same command resumes.")
@click.option(
    "--every",
    type=int,
    help="Certify each image whose index this divides [default: 1; of over 500, to make 500].",
)
@click.option("--limit", type=int, help="Certify at most so many images.")
@click.option(
    "--radii",
    type=NUMBERS,
    help="Decide these radii alone (l2, for pixels in [0, 1]) and stop an image when they are: far fewer samples.",
)
@click.option("--n0", type=int, help="Noisy samples that select the class [default: 100; none with --radii].")
@click.option(
    "--n",
    "--samples",
    "n",
    type=int,
    help="Noisy samples that bound its probability, the most with --radii; more of them certify larger radii "
    "[default: 100,000; of an IMAGE 1,000].",
)
@click.option("--alpha", type=float, help="Probability, at most, that a certificate is wrong [default: 0.001].")
@click.option(
    "--bound",
    type=click.Choice(["complement", "runner_up"]),
    help="Bound on the probability of the second class [default: complement].",
)
@click.option("--batch-size", type=int, help="Noisy images a network batch [default: what suits network and device].")
@click.option(
    "--dtype",
    type=DTYPE,
    default="float32",
    show_default=True,
    help="Type of the network; the certificate is of the network in this type, so deploy it so.",
)
@click.option(
    "--compile",
    type=click.Choice(["auto", "always", "never"]),
    is_flag=False,
    flag_value="always",
    default="auto",
    show_default=True,
    help="Compile the network; --compile alone is always, auto does on CUDA where the work is worth the building.",
)
@click.option(
    "--noise",
    type=click.Choice(["lattice", "float"]),
    default="lattice",
    show_default=True,
    help="Whole 8-bit levels, sound in floating point, or float32 noise as in the paper.",
)
@click.option(
    "--classes",
    type=click.Choice(["by-name", "by-position"]),
    default="by-name",
    show_default=True,
    help="How data and network are matched; by-position has label k be output k, whatever the names.",
)
@click.option("--seed", type=int, help="Seed of the noise, for a reproduction; without one, it is drawn afresh.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@json_option
def certify(images: tuple[Path, ...], **options: Any) -> None:
    """Certify images: for each a radius, within which the smoothed network keeps its answer.

    Each image is classified with noise on it, many times. The answers give its class and the radius within which no
    change of the image alters that, or an abstention. IMAGEs are files: what is promised of each, in words, as a
    picture and as files that can be checked. Test images of --data: the accuracy at some radii, and a record an image.
    On several devices: torchrun --nproc_per_node 2 -m -- robust_hub certify ...

    Example: robust-hub certify --model runs/digits --data digits --sigma 0.25,0.5 --n 10000 --out runs/digits/certified
    """
    if images:
        certify_images(images, **options)
    elif options["data"] is None:
        raise ValueError("expected IMAGE... or --data, got neither")
    elif options["out"] is None:
        raise ValueError("expected --out, a folder for the records, with --data, got none")
    else:
        _certify_data(**options)


def _certify_data(
    *,
    sigmas: tuple[float, ...],
    out: Path,
    quiet: bool,
    radii: tuple[float, ...] | None,
    every: int | None,
    classes: str,
    **options: Any,
) -> None:
    """Certify images of a data set, a run a sigma, and print their table."""
    from robust_hub.certification.evaluate import certify as run
    from robust_hub.certification.matching import BY_POSITION
    from robust_hub.certification.task import choose_every
    from robust_hub.evidence.values import runs_values
    from robust_hub.guarantee.plans import RADII, check_samples
    from robust_hub.models.sizes import check_size

    if every is not None:
        check_samples("every", every)
    if options["limit"] is not None:
        check_samples("limit", options["limit"])
    model, data, rest = load_to_certify(progress=not quiet, **options)
    check_size(model, data.image_shape)
    if every is None:
        every = choose_every(len(data), out / f"sigma_{sigmas[0]:g}", rest["limit"])
    if len(sigmas) > 1:  # decoded once for all of them
        data = data.keeping(range(0, len(data), every)[: rest["limit"]], progress=not quiet and is_main())
    matching = BY_POSITION if classes == "by-position" else None
    rest |= {"every": every, "radii": radii, "classes": matching, "progress": not quiet}
    runs = [run(model, data, sigma, out=out / f"sigma_{sigma:g}", **rest) for sigma in sigmas]
    shown = radii or (0.0, *RADII)
    emit({"out": out, **runs_values(runs, shown)}, lambda: table_words(runs, shown))


@click.group(cls=Commands)
def bench() -> None:
    """Measure what things cost on this machine.

    Example: robust-hub bench certify --model resnet18s_ln_mixednoise --data digits
    """


@bench.command("certify")
@model_option(required=True)
@data_options()
@test_split_option
@click.option("--sigma", default=0.25, show_default=True, help="Standard deviation of the noise, for pixels in [0, 1].")
@click.option(
    "--radii",
    type=NUMBERS,
    default="0.25,0.5,0.75,1.0",
    show_default=True,
    help="Radii of the sequential plan, l2 for pixels in [0, 1].",
)
@click.option("--images", default=20, show_default=True, help="Images, evenly spaced in the data.")
@click.option("--samples", default=4096, show_default=True, help="Samples that a round of a fixed budget times.")
@click.option("--n", default=100_000, show_default=True, help="Most samples of the sequential plan.")
@click.option("--repeats", default=5, show_default=True, help="Rounds; medians count.")
@click.option("--batch-size", type=int, help="Noisy images a network batch of both plans [default: what suits them].")
@click.option(
    "--plain-batch-size",
    "plain_batch_sizes",
    type=int,
    multiple=True,
    default=(256, 1000),
    show_default=True,
    help="Images a network batch of the plain loop; once for each that is tried, the best counts.",
)
@compile_option
@click.option("--dtype", type=DTYPE, default="float32", show_default=True, help="Type of the network.")
@click.option("--out", type=FILE, help="Write all that was measured to this JSON file.")
@json_option
def bench_certify(images: int, sigma: float, out: Path | None, **options: Any) -> None:
    """Time a plain loop, a fixed budget and a sequential plan, in turn, on one network.

    Example: robust-hub bench certify --model runs/cifar10 --data cifar10/ --out bench.json
    """
    from robust_hub.certification.bench import bench_certify as run
    from robust_hub.certification.bench import markdown
    from robust_hub.guarantee.plans import check_samples

    check_samples("images", images)
    model, data, rest = load_to_certify(**options)
    chosen = range(0, len(data), max(1, len(data) // images))[:images]
    pixels = data.batch(list(chosen))[0].float() / 255
    result = run(model, pixels, sigma, **rest)
    emit(result, lambda: markdown(result))
    if out is not None:
        replace_text(out, json.dumps(result, indent=1) + "\n")


@bench.command("train")
@model_option(required=True)
@data_options()
@click.option("--split", default="train", show_default=True, help="Split of the data.")
@click.option("--batch-size", default=128, show_default=True, help="Images a step.")
@click.option("--steps", default=10, show_default=True, help="Steps that a round times.")
@click.option("--repeats", default=5, show_default=True, help="Rounds; medians count.")
@click.option(
    "--workers", type=int, help="Processes that decode for the plain loop [default: none on a CPU, else one a core]."
)
@compile_option
@click.option("--out", type=FILE, help="Write all that was measured to this JSON file.")
@json_option
def bench_train(out: Path | None, **options: Any) -> None:
    """Time a plain training loop and ours, in float32, bfloat16 and compiled, in turn, on one network.

    Example: robust-hub bench train --model resnet18s_ln_mixednoise --data digits
    """
    from robust_hub.training.bench import bench_train as run
    from robust_hub.training.bench import markdown

    model, data, rest = load(**options)
    result = run(model, data, **rest)
    emit(result, lambda: markdown(result))
    if out is not None:
        replace_text(out, json.dumps(result, indent=1) + "\n")
