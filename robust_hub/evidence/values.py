"""Accuracies of runs as JSON values, with every digit: what `robust_hub.evidence.tables` says in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robust_hub.evidence.accuracy import Proportion, abstention_rate, certified_accuracy, clean_accuracy, decides
from robust_hub.evidence.comparisons import best_of, incomparable, labelled
from robust_hub.evidence.records import Run
from robust_hub.evidence.tally import Tally, tally
from robust_hub.guarantee.plans import RADII

_SAID = (
    *("model", "weights", "data", "split", "trained_on", "every", "dtype", "plan", "n0", "n", "alpha", "radii", "seed"),
)


def share_values(share: Proportion | None) -> dict[str, Any] | None:
    """Give a share of images in [0, 1], its number of images and the ends of its 95 % interval; None stays None.

    Args:
        share: The share.
    """
    return None if share is None else {"value": share.value, "images": share.n, "low": share.low, "high": share.high}


def runs_values(runs: Sequence[Run], radii: Sequence[float] = RADII) -> dict[str, Any]:
    """Give the accuracies of runs as JSON values, as `robust_hub.evidence.tables.markdown_table` sets them.

    Args:
        runs: The runs.
        radii: Radii, l2 in [0, 1]-pixel units.

    Returns:
        "runs", one each by rising sigma, with what was certified and how, its clean accuracy, its abstentions and its
        certified accuracy at each radius, null where the run did not decide that; "best", the best run at each radius
        over the whole set, or "not_compared", why there is none.

    Raises:
        ValueError: If there are no runs, or one without records.

    Example:
        >>> from pathlib import Path
        >>> from robust_hub.evidence.records import Record
        >>> run = Run((Record(0, 3, 3, 0.6, True, 1.0), Record(1, 5, 5, 0.2, True, 1.0)), {}, Path("log.tsv"))
        >>> runs_values([run], radii=(0.25,))["runs"][0]["certified"][0]["accuracy"]["value"]
        0.5
    """
    table = {label: tally(records) for label, records in labelled(runs).items()}
    of = {id(run.records): run for run in runs}
    values = [
        {"label": label, **_run_values(of[id(records)], table[label], radii)}
        for label, records in labelled(runs).items()
    ]
    reason = incomparable(list(runs))
    if reason or len(table) == 1:
        return {"runs": values, "best": [], "not_compared": reason or "there is one run"}
    decided = [radius for radius in radii if all(decides(counted, radius) for counted in table.values())]
    best = [
        {
            "radius": one.radius,
            "label": one.label,
            "accuracy": share_values(one.accuracy),
            "at_zero": share_values(one.at_zero),
        }
        for one in best_of(table, decided)
    ]
    return {"runs": values, "best": best, "not_compared": None}


def _run_values(run: Run, counted: Tally, radii: Sequence[float]) -> dict[str, Any]:
    certified = (certified_accuracy(counted, radius) if decides(counted, radius) else None for radius in radii)
    return {
        "folder": str(run.path),
        "finished": run.finished,
        "images": counted.n,
        "sigma": run.sigma,
        "noise": run.noise if run.identity else None,
        "reproduction": run.reproduction,
        **{name: run.identity.get(name) for name in _SAID},
        "clean": share_values(clean_accuracy(counted)),
        "abstained": share_values(abstention_rate(counted) if decides(counted, 0.0) else None),
        "certified": [
            {"radius": radius, "accuracy": share_values(share)} for radius, share in zip(radii, certified, strict=True)
        ],
    }
