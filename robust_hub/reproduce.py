"""Run the rows of a table of the paper at a scale, and set what came of them beside the paper's numbers.

Files of an experiment's folder, each part shared by all rows that need it::

    pretrained/<norm>_<sigmas>/                 a checkpoint
    tuned/<row>/                                a checkpoint
    certified/<row>/sigma_<sigma>/              records.tsv, run.json
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import timm
import torch
from torch import nn

from robust_hub.accuracy import best_per_radius, clean_accuracy
from robust_hub.asked import FINETUNE, other_pretraining, other_training, tuning
from robust_hub.config import read_config
from robust_hub.data import ImageData, load_data
from robust_hub.evaluate import certify
from robust_hub.finetune import finetune
from robust_hub.layout import CONFIG
from robust_hub.models import load_model
from robust_hub.noise import NoiseMixture
from robust_hub.options import Options
from robust_hub.pins import read_pins
from robust_hub.plots import plot_curves
from robust_hub.pretrain import pretrain_mixed_noise
from robust_hub.provenance import Provenance, provenance_of
from robust_hub.recorded import finished_runs, otherwise, recorded, run_folder
from robust_hub.records import Run
from robust_hub.remote import read_pins
from robust_hub.rows import SIGMAS, Row, Scale, Table
from robust_hub.shelves import checkpoint_folder
from robust_hub.state import check_out
from robust_hub.tables import set_rows

SIZE = 32  # pixels; what is larger is resized
Source = str | Path | ImageData


def reproduce(
    table: Table,
    scale: Scale,
    data: Mapping[str, Source],
    out: str | Path,
    *,
    rows: Sequence[str] | None = None,
    progress: bool = True,
    told: Callable[[str], None] = lambda _: None,
) -> str:
    """Run what has no record yet of a table's rows, and give the table.

    The same call goes on where it was stopped. Rows share a pretraining, and tables a folder.

    Args:
        table: A table of `robust_hub.paper`.
        scale: A scale of `robust_hub.rows`.
        data: Where the data are: the scale's pretraining set and the rows' data sets, by name.
        out: Folder of the experiment; tables and scales have parts of their own in it.
        rows: Labels, or parts of them, of the only rows that are run; the table shows all. None runs every row.
        progress: Whether to show progress bars.
        told: Is told in a line what is done next.

    Returns:
        The table in Markdown: ours beside the paper's.

    Raises:
        ValueError: If data that are needed are not named or cannot be read, the folder cannot be written, or another
            process works on the same part of it; or if the folder holds networks that were trained in another way
            than the scale says.
    """
    home = Path(out) / scale.name
    asked = [r for r in table.rows if rows is None or any(part in r.label for part in rows)]
    if not asked:
        labels = "; ".join(row.label for row in table.rows)
        raise ValueError(f"expected rows of {table.name} among {labels}; got {', '.join(rows or ()) or 'none'}")
    for part in rows or ():
        if not any(part in row.label for row in asked):
            raise ValueError(f"expected rows of {table.name}, got {part!r}, which is in no label; leave it out")
    for row in asked:
        _check_trainings(row, scale, home)
    waiting = [row for row in asked if not finished_runs(row, scale, home)]
    needed = _check_data(table, scale, waiting, data, home)
    loaded = {(name, split): load_data(data[name], split, size=SIZE) for name, split in needed}

    def get(name: str, split: str) -> ImageData:
        return loaded[name, split]

    for row in waiting:
        told(f"{table.name}, {scale.name}: {row.label}")
        model = _tuned(row, scale, home, get, progress)
        model = model.to(getattr(torch, scale.dtype)).to(memory_format=torch.channels_last)
        for sigma in SIGMAS:
            folder = run_folder(row, sigma, home)
            certify(model, get(row.dataset, "test"), sigma, out=folder, progress=progress, **scale.certify)
    return results(table, scale, out)


def results(table: Table, scale: Scale, out: str | Path | None) -> str:
    """Set the records of a table's rows in Markdown, ours beside the paper's; rows without records say so.

    A row that the experiment has no records of takes those of the shelf's checkpoint that is the row's network.

    Args:
        table: A table of `robust_hub.paper`.
        scale: A scale of `robust_hub.rows`.
        out: Folder of the experiment; None reads the shelf alone.

    Raises:
        CheckpointError: If a checkpoint of the shelf is damaged.
        ValueError: If records are damaged, or are of a network that was trained or certified otherwise than the scale
            says.
    """
    home = None if out is None else Path(out) / scale.name
    header = ["row", "clean", "paper"]
    for radius in table.radii:
        header += [f"r = {radius:g}", "paper"]
    rows = []
    kinds: set[str] = set()
    shelved: dict[str, None] = {}
    for row in table.rows:
        paper = ["-" if row.paper_clean is None else f"{row.paper_clean:.1f}"]
        paper += [f"{'' if zero is None else f'({zero:.1f}) '}{value:.1f}" for zero, value in row.paper_certified]
        paper += ["-"] * (1 + len(table.radii) - len(paper))
        ours = ["not run yet"] + ["-"] * len(table.radii)
        found = recorded(row, scale, home)
        if found.runs:
            ours = _cells(found.runs, table.radii)
            kinds |= {_kind(run) for run in found.runs}
        if found.checkpoint is not None:
            shelved[f"`{found.checkpoint}`"] = None
        pairs = [cell for pair in zip(ours, paper, strict=True) for cell in pair]
        rows.append([row.label, *pairs])
    note = (
        "Percent of the certified images, Wilson 95 % intervals; clean: the base classifier on clean images; "
        "(accuracy at 0) certified accuracy of the sigma among 0.25, 0.5 and 1.0 that is best at the radius over all "
        "these images, an interval that does not count the choice."
    )
    title = f"**{table.name}: {table.title}.** Ours at the scale {scale.name!r}: {scale.title}."
    notes = [note, *sorted(kinds), *([f"Records of the shelf: {', '.join(shelved)}."] if shelved else [])]
    return "\n".join([title, "", set_rows(header, rows), "", " ".join(notes)]) + "\n"


def draw(table: Table, scale: Scale, out: str | Path | None, picture: str | Path) -> Path:
    """Draw the certified accuracy of every finished row, one curve a sigma.

    Args:
        table: A table or figure of `robust_hub.paper`.
        scale: A scale of `robust_hub.rows`.
        out: Folder of the experiment; rows that it has no records of are the shelf's, as are all with None.
        picture: Image file to write.

    Returns:
        The file written.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If no row is finished, or the file cannot be written.
    """
    home = None if out is None else Path(out) / scale.name
    curves = {
        f"{row.dataset}, {row.label}, sigma = {run.sigma:g}": run.records
        for row in table.rows
        for run in recorded(row, scale, home).runs
    }
    return plot_curves(curves, picture, title=f"{table.name}, scale {scale.name}")


def _tuned(row: Row, scale: Scale, home: Path, get: Callable[[str, str], ImageData], progress: bool) -> nn.Module:
    """Give a row's trained network, from its folder or by training it."""
    folder, images = home / "tuned" / row.name, get(row.dataset, "train")
    if (folder / CONFIG).exists():
        trained = _provenance(folder)
        if trained is None or trained.data_hash != images.data_hash:
            raise ValueError(
                otherwise(folder, scale, f"images of {trained and trained.data} that are not those named now")
            )
        return load_model(folder)
    mixture, options = NoiseMixture(row.tuned), tuning(row, scale)
    if row.pretrained is None:
        fresh = _fresh(f"{scale.depth}_{row.norm}")
        pretrain_mixed_noise(fresh, images, mixture=mixture, out=folder, progress=progress, **options)
        return load_model(folder)
    source = _pretrained(row, scale, home)
    if source is None:
        source = str(_pretraining(row, home))
        before, fresh = NoiseMixture(row.pretrained), _fresh(f"{scale.depth}_{row.norm}")
        others = get(scale.pretraining, "train")
        pretrain_mixed_noise(fresh, others, mixture=before, out=source, progress=progress, **scale.pretrain)
    model = load_model(source)
    if other := other_pretraining(provenance_of(model), row, scale):
        raise ValueError(otherwise(source, scale, other))
    check_out(model, folder)
    head_scale = options.pop("head_scale", 1.0)
    built = Options.of(model, **{**FINETUNE, **options, "progress": progress})
    finetune(model, images, mixture, built, head_only=row.head_only, head_scale=head_scale, out=folder)
    return load_model(folder)


def _pretraining(row: Row, home: Path) -> Path:
    return home / "pretrained" / row.pretraining_name


def _pretrained(row: Row, scale: Scale, home: Path) -> str | None:
    """Give a row's finished pretraining: the experiment's own, else the shelf's; None where it has to be run."""
    if (_pretraining(row, home) / CONFIG).exists():
        return str(_pretraining(row, home))
    name = scale.shelf.get((row.norm, row.pretrained or ()))
    if name is None:
        return None
    folder = checkpoint_folder(name)
    if folder is None:
        return name if name in read_pins() else None
    return None if other_pretraining(_provenance(folder), row, scale) else name


def _check_trainings(row: Row, scale: Scale, home: Path) -> None:
    """Raise if a network of the row's is there that was trained otherwise than the scale says."""
    for folder, other in (
        (_pretraining(row, home), other_pretraining),
        (home / "tuned" / row.name, other_training),
    ):
        if (folder / CONFIG).exists() and (found := other(_provenance(folder), row, scale)):
            raise ValueError(otherwise(folder, scale, found))


def _provenance(folder: Path) -> Provenance | None:
    return read_config(folder).provenance


def _fresh(name: str) -> nn.Module:
    """Make a network with random weights, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = timm.create_model(name)
    return model


def _check_data(
    table: Table, scale: Scale, waiting: Sequence[Row], data: Mapping[str, Source], home: Path
) -> list[tuple[str, str]]:
    """Give all data (name, split) that are needed, and raise before the first training if some are not named."""
    needed = {(row.dataset, split) for row in waiting for split in ("train", "test")}
    for row in waiting:
        tuned = home / "tuned" / row.name / CONFIG
        if row.pretrained is not None and not tuned.exists() and _pretrained(row, scale, home) is None:
            needed.add((scale.pretraining, "train"))
    missing = sorted({name for name, _ in needed} - data.keys())
    if missing:
        words = " ".join(f"--data {name}=FOLDER" for name in missing)
        raise ValueError(f"expected data for {table.name} at scale {scale.name}: {', '.join(missing)}; say {words}")
    return sorted(needed)


def _cells(runs: Sequence[Run], radii: Sequence[float]) -> list[str]:
    clean = clean_accuracy(runs[0].records)
    best = best_per_radius(runs, radii)
    cells = ["-" if clean is None else clean.percent]
    for winner in best:
        zero = "" if winner.at_zero is None else f"({100 * winner.at_zero.value:.1f}) "
        cells.append(zero + winner.accuracy.percent)
    return cells


def _kind(run: Run) -> str:
    told = run.identity
    plan = f"{told.get('plan', 'fixed')} plan, n = {told['n']:,}, alpha = {told['alpha']:g}"
    return f"{told['images']} images (every {told['every']}th) of {told.get('data')}, {plan}, {told['dtype']}."
