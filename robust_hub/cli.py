"""The command line: thin doors to public functions. Its commands stand in the files cli_*.py."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import click

from robust_hub.cli_certify import bench, certify, report
from robust_hub.cli_paper import demo, reproduce
from robust_hub.cli_publish import card, models, publish, shelve, verify
from robust_hub.cli_train import finetune, pretrain
from robust_hub.errors import CheckpointError


class _Group(click.Group):
    """A group whose expected errors are one sentence and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        warnings.showwarning = lambda message, *_: click.echo(f"warning: {message}", err=True)
        try:
            return super().invoke(ctx)
        except (ValueError, TypeError, ImportError, OSError, CheckpointError, FloatingPointError) as error:
            click.echo(f"robust-hub: {' '.join(str(error).split())}", err=True)
            sys.exit(2)


@click.group(cls=_Group)
@click.version_option(package_name="robust-hub")
def main() -> None:
    """Certifiably robust pretrained vision models: pretrain on mixed noise, fine-tune clean, certify."""


@main.command()
@click.option("--all", "every", is_flag=True, help="Architectures too, not only pretrained names.")
@click.option("--remote", is_flag=True, help="List the checkpoints of a namespace on the Hub instead.")
@_namespace_option
def models(every: bool, remote: bool, namespace: str | None) -> None:
    """List the models: which have weights here, how those were trained, their size and accuracies.

    Example: robust-hub models
    """
    from rich.console import Console
    from rich.table import Column, Table

    if remote:
        from robust_hub.hub import list_published

        if namespace is None:
            raise ValueError("expected --namespace, or ROBUST_HUB_NAMESPACE in the environment, with --remote")
        for repo_id, revision, pinned in list_published(namespace):
            click.echo(f"{repo_id} {revision}{' (pinned)' if pinned else ''}")
        return

    from robust_hub.evidence import RADIUS, describe_all
    from robust_hub.models import NAMES, SUFFIX

    have = {shelved.name: shelved for shelved in describe_all()}
    whole = [Column(word, no_wrap=True) for word in ("model", "MB", "clean %", f"r = {RADIUS:g} %")]
    table = Table(whole[0], "trained", whole[1], "certified on", *whole[2:])
    for name in sorted(set(NAMES) | have.keys()):
        one = have.get(name)
        if one is not None:
            told = "-" if one.data is None else f"{one.data}, sigma {one.sigma:g}"
            table.add_row(
                name,
                one.trained,
                f"{one.megabytes:.1f}{'' if one.base is None else ' + base'}",
                told,
                *("-" if a is None else a.percent for a in (one.clean, one.certified)),
            )
        elif every or name.endswith(SUFFIX):
            table.add_row(name, "no weights yet" if name.endswith(SUFFIX) else "architecture", "", "", "", "")
    Console(width=max(140, shutil.get_terminal_size().columns)).print(table)


@main.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("name")
@click.option(
    "--certified", multiple=True, type=click.Path(path_type=Path), help="Run folder of certify, once for each."
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Type of the file [default: as certified, else float16].",
)
@click.option("--base", help="Store the difference to this checkpoint, which it was fine-tuned from.")
@click.option(
    "--shelf",
    type=click.Path(path_type=Path),
    default=Path("model_cards"),
    show_default=True,
    help="Folder of all checkpoints.",
)
def shelve(
    source: Path, name: str, certified: tuple[Path, ...], dtype: str | None, base: str | None, shelf: Path
) -> None:
    """Put the checkpoint folder SOURCE on the shelf as NAME, with the records that certify it.

    Example: robust-hub shelve runs/cifar10 resnet18s_ln_mixednoise.cifar10 --certified runs/certified/sigma_0.25
    """
    import torch

    from robust_hub.shelf import shelve as run

    kind = None if dtype is None else getattr(torch, dtype)
    click.echo(run(source, name, certified=certified, dtype=kind, base=base, shelf=shelf))


@main.command()
@click.option("--model", default="resnet18s_ln", show_default=True, help="A timm name or a checkpoint folder.")
@_data_options
@_training_options
@click.option("--sigmas", default="0,0.25,0.5,1.0", show_default=True, help="The noise mixture; 0 is the clean image.")
@click.option("--epochs", default=100, show_default=True, help="Passes over the data.")
@click.option(
    "--learning-rate", default="0.1", show_default=True, help="One, or several with commas: the best is kept."
)
@click.option("--weight-decay", default=5e-4, show_default=True, help="Weight decay.")
def pretrain(sigmas: str, **options: Any) -> None:
    """Pretrain on a mixture of clean and noisy images.

    Example: robust-hub pretrain --model resnet18s_ln --data imagenet32/ --epochs 60 --out runs/mixed
    """
    from robust_hub.noise import NoiseMixture
    from robust_hub.pretrain import pretrain_mixed_noise

    model, data, rest = _prepare(options)
    result = pretrain_mixed_noise(model, data, mixture=NoiseMixture(_numbers(sigmas)), **rest)
    _report_training(result, rest["out"])


@main.command()
@click.option(
    "--model", default="resnet18s_ln_mixednoise", show_default=True, help="A timm name or a checkpoint folder."
)
@_data_options
@_training_options
@click.option("--head-scale", default=1.0, show_default=True, help="Factor on the new classifier's learning rate.")
@click.option("--head-only", is_flag=True, help="Train the classifier only, on fixed features.")
@click.option("--epochs", default=1, show_default=True, help="Passes over the data.")
@click.option(
    "--learning-rate", default="0.01", show_default=True, help="One, or several with commas: the best is kept."
)
@click.option("--weight-decay", default=0.0, show_default=True, help="Weight decay.")
def finetune(head_only: bool, **options: Any) -> None:
    """Fine-tune a pretrained model on clean images only.

    Example: robust-hub finetune --data digits --epochs 3 --out runs/digits
    """
    from robust_hub.finetune import finetune_clean

    model, data, rest = _prepare(options)
    result = finetune_clean(model, data, head_only=head_only, **rest)
    _report_training(result, rest["out"])


@main.command()
@click.option("--model", required=True, help="A timm name or a checkpoint folder.")
@_data_options
@click.option("--split", default="test", show_default=True, help="Split of the data.")
@click.option("--sigma", "sigmas", default="0.25", show_default=True, help="One, or several with commas: a run each.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder; a sub-folder sigma_... a run; resumes."
)
@click.option("--every", default=20, show_default=True, help="Certify each image whose index this divides.")
@click.option("--limit", type=int, help="Certify at most so many images.")
@click.option(
    "--radii", help="Decide these radii only, with commas, and stop an image when they are: far fewer samples."
)
@click.option("--n0", type=int, help="Samples that select the class [default: 100; none with --radii].")
@click.option("--n", type=int, help="Samples that bound its probability, the most with --radii [default: 100,000].")
@click.option("--alpha", type=float, help="Failure probability of each certificate [default: 0.001].")
@click.option("--bound", type=click.Choice(["complement", "runner_up"]), help="Bound on p_B [default: complement].")
@click.option("--batch-size", type=int, help="Images a network batch [default: what suits network and device].")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Type of the network; the certificate is of the network in this type, so deploy it so.",
)
@_compile_option
@click.option("--seed", type=int, help="Seed of the noise; without one, the operating system's entropy.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def certify(sigmas: str, out: Path, dtype: str, compiled: bool, quiet: bool, radii: str | None, **options: Any) -> None:
    """Certify test images by randomized smoothing: one record an image.

    Example: robust-hub certify --model runs/digits --data digits --sigma 0.25,0.5 --n 10000 --out runs/digits/certified
    """
    from robust_hub.evaluate import certify as run
    from robust_hub.plans import RADII
    from robust_hub.tables import markdown_table

    grid = None if radii is None else _numbers(radii)
    model, data, rest = _prepare(options)
    model = _cast(model, dtype, compiled)
    runs = [
        run(model, data, sigma, out=out / f"sigma_{sigma:g}", radii=grid, progress=not quiet, **rest)
        for sigma in _numbers(sigmas)
    ]
    click.echo(markdown_table(runs, [radius for radius in grid if radius] if grid else RADII))


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(["markdown", "latex"]), default="markdown", show_default=True)
@click.option("--radii", default="0.25,0.5,0.75,1.0", show_default=True, help="Radii of the table.")
@click.option("--plot", type=click.Path(path_type=Path), help="Write the certified-accuracy curves to this PNG.")
def report(runs: tuple[Path, ...], kind: str, radii: str, plot: Path | None) -> None:
    """Make tables and curves from run folders, or from logs in the format of Cohen et al.

    Example: robust-hub report runs/digits/certified/sigma_* --plot curves.png
    """
    from robust_hub.plots import plot_curves
    from robust_hub.records import read_run
    from robust_hub.tables import latex_table, markdown_table

    read = [read_run(path) for path in runs]
    click.echo((markdown_table if kind == "markdown" else latex_table)(read, _numbers(radii)))
    if plot is not None:
        click.echo(f"curves: {plot_curves(read, plot)}", err=True)


@main.group()
def bench() -> None:
    """Measure what things cost on this machine.

    Example: robust-hub bench certify --model resnet18s_ln_mixednoise --data digits
    """


@bench.command("certify")
@click.option("--model", required=True, help="A timm name or a checkpoint folder.")
@_data_options
@click.option("--split", default="test", show_default=True, help="Split of the data.")
@click.option("--sigma", default=0.25, show_default=True, help="Standard deviation of the noise.")
@click.option("--radii", default="0.25,0.5,0.75,1.0", show_default=True, help="Radii of the sequential plan.")
@click.option("--images", default=20, show_default=True, help="Images, evenly spaced in the data.")
@click.option("--samples", default=4096, show_default=True, help="Samples that a round of a fixed budget times.")
@click.option("--n", default=100_000, show_default=True, help="Most samples of the sequential plan.")
@click.option("--repeats", default=5, show_default=True, help="Rounds; medians count.")
@click.option("--batch-size", type=int, help="Images a network batch of both plans [default: what suits them].")
@click.option("--plain-batch-size", default=1000, show_default=True, help="Images a network batch of the plain loop.")
@_compile_option
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write all that was measured to this JSON file.")
def bench_certify(images: int, radii: str, dtype: str, compiled: bool, out: Path | None, **options: Any) -> None:
    """Time a plain loop, a fixed budget and a sequential plan, in turn, on one network.

    Example: robust-hub bench certify --model runs/cifar10 --data cifar10/ --out bench.json
    """
    import json

    from robust_hub.bench import bench_certify as run
    from robust_hub.bench import markdown
    from robust_hub.files import replace_text
    from robust_hub.plans import check_samples

    check_samples("images", images)
    model, data, rest = _prepare(options)
    chosen = range(0, len(data), max(1, len(data) // images))[:images]
    pixels = data.batch(list(chosen))[0].float() / 255
    result = run(_cast(model, dtype, compiled), pixels, rest.pop("sigma"), radii=_numbers(radii), **rest)
    click.echo(markdown(result))
    if out is not None:
        replace_text(out, json.dumps(result, indent=1) + "\n")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", help="The checkpoint's name for timm [default: the folder's].")
def card(folder: Path, name: str | None) -> None:
    """Write a checkpoint folder's README.md from its records, and the picture of its curves.

    Example: robust-hub card model_cards/resnet18s_ln_mixednoise.cifar10
    """
    from robust_hub.cards import write_card

    click.echo(write_card(name or folder.resolve().name, folder))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@_namespace_option
@click.option("--repo", help="Repository, owner/name [default: the folder's name in the namespace].")
@click.option("--name", help="The checkpoint's name for timm [default: the folder's].")
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--tag", help="Tag the commit.")
@click.option("--base-model", help="Repository of the model that this one was fine-tuned from.")
@click.option("--pin", "pinned", is_flag=True, help="Make this installation load the name at the published revision.")
@click.option("--dry-run", is_flag=True, help="Send nothing, say what would go.")
def publish(
    folder: Path, namespace: str | None, repo: str | None, name: str | None, pinned: bool, dry_run: bool, **options: Any
) -> None:
    """Send a checkpoint folder with its card and records to the Hub, and compare what comes back.

    Example: robust-hub publish model_cards/resnet18s_ln_mixednoise.cifar10 --namespace me --dry-run
    """
    from robust_hub.hub import pin
    from robust_hub.hub import publish as run

    name = name or folder.resolve().name
    if repo is None and namespace is None:
        raise ValueError("expected --repo owner/name, or --namespace (or ROBUST_HUB_NAMESPACE), got neither")
    told = run(folder, repo or f"{namespace}/{name}", name=name, dry_run=dry_run, **options)
    for path, size, digest in told.files:
        click.echo(f"{size:>12,}  {digest[:12]}  {path}")
    for path in told.removed:
        click.echo(f"{'removed':>12}  {'':12}  {path}")
    if told.revision is None:
        click.echo(f"dry run: nothing was sent to {told.repo_id}")
        return
    click.echo(f"{told.repo_id} at {told.revision}: what comes back is what was sent")
    if pinned:
        pin(name, told)


@main.command()
@click.argument("source")
@click.option("--revision", help="Branch, tag or commit of a repository.")
def verify(source: str, revision: str | None) -> None:
    """Check a checkpoint folder, or a repository on the Hub: hashes, norm, layers, logits and records.

    Example: robust-hub verify model_cards/resnet18s_ln_mixednoise.cifar10
    """
    from robust_hub.hub import verify as run

    click.echo(f"{run(source, revision=revision)}: weights, norm, logits and records are what config.json says")


@main.command()
@click.argument("table")
@click.option("--scale", default="small", show_default=True, help="small, small42, h200 or paper.")
@click.option("--data", "data", multiple=True, help="NAME=FOLDER or NAME=HUB_ID, once for each data set.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/reproduce"), show_default=True, help="Folder; resumes."
)
@click.option("--row", "rows", multiple=True, help="Run only rows with this in their label; once for each.")
@click.option("--show", is_flag=True, help="Run nothing, print what is there.")
@click.option("--plot", type=click.Path(path_type=Path), help="Write the curves, one a row and sigma, to this PNG.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def reproduce(
    table: str,
    scale: str,
    data: tuple[str, ...],
    out: Path,
    rows: tuple[str, ...],
    show: bool,
    plot: Path | None,
    quiet: bool,
) -> None:
    """Run the rows of a table of the paper that have no record yet, and print it beside the paper's numbers.

    Example: robust-hub reproduce table6 --data tiny-imagenet-32=tiny-imagenet-32/ --data cifar10=cifar10/
    """
    from robust_hub.paper import check_data_name, find_table
    from robust_hub.recipes import find_scale
    from robust_hub.reproduce import draw, results
    from robust_hub.reproduce import reproduce as run

    chosen, size = find_table(table), find_scale(scale)
    named = dict(_pair(text) for text in data)
    for name in named:
        check_data_name(name)
    if not show:
        told = partial(click.echo, err=True)
        run(chosen, size, named, out, rows=rows or None, progress=not quiet, told=told)
    click.echo(results(chosen, size, out))
    if plot is not None:
        click.echo(f"curves: {draw(chosen, size, out, plot)}", err=True)


@main.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("robust-hub-demo"), show_default=True, help="Folder."
)
@click.option("--quiet", is_flag=True, help="No progress bars.")
def demo(out: Path, quiet: bool) -> None:
    """Fine-tune the small checkpoint on clean digits, certify, print the table, draw curves and votes.

    Example: robust-hub demo
    """
    from robust_hub.demo import run_demo

    run_demo(out, progress=not quiet)
    click.echo((out / "table.md").read_text())
    click.echo(f"curves: {out / 'curves.png'}, votes of one image: {out / 'votes.png'}")


def _pair(text: str) -> tuple[str, str]:
    name, sign, place = text.partition("=")
    if not (name and sign and place):
        raise ValueError(f"expected --data NAME=FOLDER, such as cifar10=data/cifar10, got {text!r}")
    return name, place


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"expected numbers with commas between, such as 0.25,0.5, got {text!r}") from None


def _prepare(options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """Load model and data of a command and give the options that are left."""
    from robust_hub.data import load_data
    from robust_hub.models import load_model

    take = {k: options.pop(k) for k in ("image_column", "label_column", "size")}
    if "learning_rate" in options:
        import torch

        torch.manual_seed(options["seed"])  # of weights that are not pretrained
    model = load_model(options.pop("model"))
    data = load_data(options.pop("data"), options.pop("split"), **take)
    if "learning_rate" in options:
        rates = _numbers(options["learning_rate"])
        options["learning_rate"] = rates if len(rates) > 1 else rates[0]
        options["progress"] = not options.pop("quiet")
    return model, data, options


def _report_training(result: Any, out: Path) -> None:
    last = result.history[-1]
    click.echo(
        f"{out}: {last['epoch']} epochs, loss {last['loss']:.3f}, training accuracy {100 * last['accuracy']:.1f} %, "
        f"learning rate {result.learning_rate:g}"
    )


if __name__ == "__main__":
    main()
