"""Evidence -> model card: the README.md of a checkpoint's folder, prose for people, metadata for the Hub.

The prose stands in card.md.jinja, a template of Jinja; here is what is put into it. Every number is read from a record
or from config.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from robust_hub.evidence.comparisons import decided_radii
from robust_hub.evidence.identity import noise_words
from robust_hub.evidence.plots import draw_curves
from robust_hub.evidence.records import Record, Run
from robust_hub.evidence.tables import markdown_table, set_rows
from robust_hub.files import replace_files
from robust_hub.layout import CARD, PICTURE
from robust_hub.models.family import SUFFIX
from robust_hub.models.shelves import check_name, is_name
from robust_hub.parsing import shown, table_cell
from robust_hub.provenance import Provenance, summary
from robust_hub.publishing.data_sets import data_set
from robust_hub.publishing.evidence import Evidence, UnderNoise, read_evidence
from robust_hub.publishing.licences import TITLES, inherited
from robust_hub.publishing.loading import by_name_words, is_found_anywhere, load_line, script_name
from robust_hub.publishing.metadata import metadata
from robust_hub.training.judged import Judged

TEMPLATE = Path(__file__).with_name("card.md.jinja")
_NAMED = 20  # classes in a card
# Of a provenance's JSON, what has no row in the table of settings.
_NO_SETTINGS = ("history", "fingerprint", "base", "held_out", "trained_on")


def card(evidence: Evidence, *, base_model: str | None = None, repo_id: str | None = None) -> str:
    """Write a checkpoint's card.

    Args:
        evidence: What its folder says, see `robust_hub.publishing.evidence.read_evidence`.
        base_model: Repository of the model that it was fine-tuned from.
        repo_id: Its own repository on the Hub.

    Returns:
        The text of README.md, metadata included; the same for the same evidence.
    """
    values = {
        "name": shown(evidence.name),
        "config": evidence.config,
        "training": evidence.provenance,
        "repo_id": repo_id or f"OWNER/{evidence.name}",
        "picture": PICTURE,
        **_loading(evidence, repo_id),
        **_licence(evidence),
        **_network(evidence),
        **_certification(evidence.runs),
        "under_noise": None if evidence.under_noise is None else _under_noise(evidence.under_noise),
        **_training(evidence.provenance, evidence.bases),
        **_data(evidence),
    }
    return f"{ModelCard.from_template(metadata(evidence, base_model), template_path=str(TEMPLATE), **values)}\n"


def write_card(name: str, folder: str | Path, *, base_model: str | None = None, repo_id: str | None = None) -> Path:
    """Write a checkpoint's README.md and, where there are records, the picture of its curves.

    Args:
        name: Its name for timm.
        folder: Its folder.
        base_model: Repository of the model that it was fine-tuned from.
        repo_id: Its own repository on the Hub.

    Returns:
        The card's path.

    Raises:
        CheckpointError: If the folder holds no checkpoint or a damaged one.
        ImportError: If matplotlib is not installed and there are records to draw.
        ValueError: If the name is none, a record is damaged, or the folder cannot be written; the old card is kept.
    """
    evidence = read_evidence(check_name(name), folder)
    text = card(evidence, base_model=base_model, repo_id=repo_id)
    files = {evidence.folder / CARD: text.encode()}
    if evidence.runs:
        files = {evidence.folder / PICTURE: draw_curves(_labels(evidence.runs), title=name), **files}
    try:
        replace_files(files)
    except OSError as error:
        raise ValueError(
            f"expected a folder that can be written, got {shown(evidence.folder)} ({error.strerror or error}): make "
            "room or choose another one; the card that was there is kept"
        ) from error
    return evidence.folder / CARD


def _network(evidence: Evidence) -> dict[str, Any]:
    return {
        "kind": shown(evidence.name).split(".")[0].removesuffix(SUFFIX).split("_")[0],
        "size": "x".join(map(str, evidence.config.input_size or ("?",))),
        "trained": shown(summary(evidence.config.provenance)),
    }


def _loading(evidence: Evidence, repo_id: str | None) -> dict[str, Any]:
    name, folder = evidence.name, evidence.folder
    local = repo_id is None and not is_found_anywhere(name, folder)
    return {
        "load": load_line(name, folder, repo_id),
        "script_name": script_name(name, folder, repo_id),
        "by_name": by_name_words(name, folder) if local and is_name(name) else None,
    }


def _licence(evidence: Evidence) -> dict[str, Any]:
    known = evidence.config.license
    theirs = [TITLES.get(one, shown(one, 64)) for one in inherited(evidence.bases, known)]
    return {
        "licence": None if known is None else TITLES.get(known, known),
        "base_licence": " and ".join(theirs),
    }


def _certification(runs: Sequence[Run]) -> dict[str, Any]:
    types = {shown(run.identity.get("dtype"), 40) for run in runs}
    of_one = len({run.identity.get("data") for run in runs}) == 1
    table = markdown_table(runs if of_one else _labels(runs), decided_radii(runs)) if runs else ""
    noises = dict.fromkeys(noise_words(run.noise, run.reproduction) for run in runs)
    return {
        "alphas": [f"{alpha:g}" for alpha in sorted({float(run.identity["alpha"]) for run in runs})],
        "certified_table": table.strip(),
        "noises": [] if of_one else list(noises),  # the table of one data set's runs says it
        "float_noise": any(run.noise == "float32" for run in runs),
        "runs": [_run(run) for run in runs],
        "classes": _classes(runs),
        "dtype": types.pop() if len(types) == 1 else "float32",
    }


def _classes(runs: Sequence[Run]) -> str:
    """Name the network's classes, if its runs agree and say more than numbers."""
    said = {run.classes for run in runs if run.classes}
    names = said.pop() if len(said) == 1 else ()
    if all(name.isdecimal() for name in names):
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(table_cell(name) for name in names[:_NAMED]) + more


def _run(run: Run) -> dict[str, Any]:
    identity = run.identity
    return {
        "sigma": f"{run.sigma:g}",
        "images": len(run.records),
        "data": shown(data_set(identity.get("data")).title),
        "split": _split(run),
        "every": identity.get("every"),
        "plan": identity.get("plan", "fixed"),
        "n": f"{int(identity['n']):,}",
        "alpha": f"{identity['alpha']:g}",
        "seed": identity.get("seed"),
        "dtype": shown(identity.get("dtype")),
        "matched": shown(identity.get("matched", "")),
    }


def _split(run: Run) -> str:
    """Name the part of the data that a run certified."""
    split, held = run.identity.get("split"), None if run.provenance is None else run.provenance.held_out
    if seen := run.identity.get("trained_on"):
        return f"{shown(split)} split, at least {seen} of them trained on"
    if not isinstance(held, Mapping) or "hashes" not in held or split != held.get("split"):
        return f"{shown(split)} split"
    share = held.get("fraction")
    return f"the part held out of training, {100 * share:g} %" if isinstance(share, float) else "held out of training"


def _judged(training: Provenance) -> str:
    """Say what the network got right of images that were kept apart from its training; empty where nothing was."""
    try:
        judged = Judged.from_json(training.held_out or {})
        return "" if judged is None else shown(judged.words, 400)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"expected right answers on images kept apart, got {shown(repr(error), 100)}: restore config.json"
        ) from None


def _under_noise(measured: UnderNoise) -> dict[str, Any]:
    accuracies = list(measured.accuracies.values())
    header = [f"sigma {sigma:g}" if sigma else "clean" for sigma in measured.accuracies]
    return {
        "table": set_rows(header, [[accuracy.percent for accuracy in accuracies]]).strip(),
        "images": f"{accuracies[0].n:,}",
        "data": shown(data_set(measured.data).title),
        "split": shown(measured.split),
        "dtype": shown(measured.dtype),
    }


def _training(training: Provenance, bases: Sequence[Provenance]) -> dict[str, Any]:
    settings = {k: v for k, v in training.to_json().items() if k not in _NO_SETTINGS and v is not None}
    return {
        "started_from": shown(summary(bases[0])) if bases else None,
        "settings": [(table_cell(key.replace("_", " ")), table_cell(_word(value))) for key, value in settings.items()],
        "last_epoch": _last_epoch(training) if training.history else None,
        "judged": _judged(training),
    }


def _last_epoch(training: Provenance) -> dict[str, str]:
    last, epochs = training.history[-1], len(training.history)
    try:
        return {
            "loss": f"{last['loss']:.3f}",
            "accuracy": f"{100 * last['accuracy']:.1f}",
            "images_seen": f"{(training.images or 0) * epochs:,}",
            "minutes": f"{sum(float(row.get('seconds', 0)) for row in training.history) / 60:.1f}",
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"expected loss and accuracy of each epoch, got {shown(last, 100)} ({error!r}): restore config.json"
        ) from None


def _data(evidence: Evidence) -> dict[str, Any]:
    """Give what is said of the data that a checkpoint was made from and measured on, each set once."""
    own, bases = evidence.provenance.data, [base.data for base in evidence.bases]
    trained = dict.fromkeys(str(name) for name in (own, *bases) if name)
    certified = [run.identity.get("data") for run in evidence.runs]
    used = dict.fromkeys(str(name) for name in (own, *certified, *bases) if name)
    titles = [(shown(Path(name).name), shown(data_set(name).title)) for name in trained]
    return {
        "data_titles": [(name, title) for name, title in titles if title != name],
        "data_terms": list(dict.fromkeys((shown(data_set(name).title), data_set(name).terms) for name in used)),
        "data_note": data_set(own).note,
    }


def _labels(runs: Sequence[Run]) -> dict[str, Sequence[Record]]:
    """Label runs by sigma, and by data where there are several."""
    several = len({run.identity.get("data") for run in runs}) > 1
    data = [f"{shown(data_set(run.identity.get('data')).title)}, " if several else "" for run in runs]
    return {f"{title}sigma = {run.sigma:g}": run.records for title, run in zip(data, runs, strict=True)}


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_word(one)}" for key, one in value.items())
    return ", ".join(map(_word, value)) if isinstance(value, (list, tuple)) else str(value)
