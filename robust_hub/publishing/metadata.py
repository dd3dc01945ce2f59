"""A card's metadata as the Hub reads them: what the model is, and its accuracies as a `model-index`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from robust_hub.evidence.accuracy import Proportion, certified_accuracy, clean_accuracy
from robust_hub.evidence.comparisons import decided_radii
from robust_hub.evidence.records import Run
from robust_hub.evidence.tally import tally
from robust_hub.publishing.data_sets import data_set
from robust_hub.publishing.evidence import Evidence


def metadata(evidence: Evidence, base_model: str | None = None) -> ModelCardData:
    """Give the metadata of a checkpoint's card.

    Args:
        evidence: What its folder says.
        base_model: Repository of the model that it was fine-tuned from.
    """
    norm, runs = evidence.config.norm, evidence.runs
    names = [evidence.provenance.data, *(run.identity.get("data") for run in runs)]
    hub_ids = dict.fromkeys(hub_id for name in names if name and (hub_id := data_set(name).hub_id))
    results = [result for run in runs for result in _results(run)]
    return ModelCardData(
        license=evidence.config.license,
        library_name="timm" if evidence.config.plain_timm is not None else "robust-hub",
        pipeline_tag="image-classification",
        tags=["certified-robustness", "randomized-smoothing", "timm", *([f"norm-{norm}"] if norm else [])],
        base_model=base_model,
        datasets=list(hub_ids) or None,
        metrics=["accuracy"] if results else None,
        model_name=evidence.name if results else None,
        eval_results=results or None,
    )


def _results(run: Run) -> Iterator[EvalResult]:
    """Give a run's accuracies: on clean images, and certified at each radius that it decided."""
    counted = tally(run.records)
    if (clean := clean_accuracy(counted)) is not None:
        yield _result(run, "accuracy", "clean accuracy of the base classifier", clean, {})
    for radius in decided_radii([run]):
        label = f"certified accuracy, sigma {run.sigma:g}, radius {radius:g}"
        arguments = {"sigma": run.sigma, "radius": radius, "norm": "l2", "alpha": float(run.identity["alpha"])}
        yield _result(run, "certified_accuracy", label, certified_accuracy(counted, radius), arguments)


def _result(run: Run, kind: str, label: str, accuracy: Proportion, arguments: dict[str, Any]) -> EvalResult:
    """Give an accuracy, percent with its number of images, as the Hub's `model-index` has it."""
    data = data_set(run.identity.get("data"))
    interval = [_percent(accuracy.low), _percent(accuracy.high)]
    return EvalResult(
        task_type="image-classification",
        dataset_type=data.hub_id or data.title,
        dataset_name=data.title,
        dataset_split=str(run.identity.get("split")),
        metric_type=kind,
        metric_name=label,
        metric_value=_percent(accuracy.value),
        metric_args={**arguments, "images": accuracy.n, "interval95": interval},
    )


def _percent(value: float) -> float:
    return round(100 * value, 2)
