"""Where curves and rows of a table end because of their samples, and not because of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robust_hub.evidence.comparisons import Runs, labelled, listed
from robust_hub.evidence.limit import Limit, limit_of, want_of_samples


def limits_of(runs: Runs) -> dict[str, Limit]:
    """Give the limits that the samples of runs set, by the label that `labelled` gives a run.

    Args:
        runs: Records by label, or runs.

    Returns:
        A limit for each run of a fixed number of samples, and for each grid with radii out of reach; none for others,
        such as logs that say no number of samples.

    Raises:
        ValueError: If there are no runs, or one without records.

    Example:
        >>> from robust_hub.evidence.record import Record
        >>> records = [Record(0, 3, 3, 0.6, True, 1.0, n=1000, sigma=0.25, alpha=0.001)]
        >>> limit = limits_of({"sigma = 0.25": records})["sigma = 0.25"]
        >>> round(limit.radius, 3), limit.words
        (0.616, 'n = 1,000 certifies no more')
    """
    runs = listed(runs)
    table = labelled(runs)
    said = {} if isinstance(runs, Mapping) else {id(run.records): run.identity for run in runs}
    found = {label: limit_of(records, said.get(id(records), {})) for label, records in table.items()}
    return {label: limit for label, limit in found.items() if limit is not None}


def limits_note(runs: Runs, radii: Sequence[float]) -> str:
    """Say which runs had too few samples for the radii of a table, so that nobody takes their 0 for the network's.

    Args:
        runs: Records by label, or runs.
        radii: The table's radii, l2 in [0, 1]-pixel units.

    Returns:
        A sentence; empty where the samples allow every radius.

    Raises:
        ValueError: If there are no runs, or one without records.

    Example:
        >>> from robust_hub.evidence.record import Record
        >>> records = [Record(0, 3, 3, 0.6, True, 1.0, n=1000, sigma=0.25, alpha=0.001)]
        >>> limits_note({"sigma = 0.25": records}, (0.25, 0.75)).partition(":")[2]
        ' at sigma = 0.25, n = 1,000 certifies no more than about 0.616, whatever the network.'
    """
    short: dict[str, list[str]] = {}
    for label, one in limits_of(runs).items():
        if max(radii, default=0.0) >= one.radius:
            short.setdefault(one.sentence, []).append(label)
    words = [f"{_listed(labels)}, {what}" for what, labels in short.items()]
    return want_of_samples("; ".join(words)) if words else ""


def _listed(labels: Sequence[str]) -> str:
    return f"at {labels[0]}" if len(labels) == 1 else f"in {len(labels)} runs, the first of them {labels[0]}"
