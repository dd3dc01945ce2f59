"""What a notebook shows of a run: its accuracies at a few radii, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

from robust_hub.evidence.accuracy import abstention_rate, certified_accuracy, clean_accuracy, decides, grid_of
from robust_hub.evidence.limit import Limit, want_of_samples
from robust_hub.evidence.record import Record
from robust_hub.evidence.tally import tally
from robust_hub.guarantee.plans import RADII
from robust_hub.markup import block, note, rows


def run_html(heading: str, records: Sequence[Record], noise: str, seen: int = 0, limit: Limit | None = None) -> str:
    """Show a run.

    Args:
        heading: What the run is.
        records: One record per image, of one sigma.
        noise: What is said of its noise, see `robust_hub.evidence.identity.noise_words`; empty for nothing.
        seen: How many of the images are known to be ones that the network was trained on.
        limit: Where the certificates end for want of samples, see `robust_hub.evidence.limit.limit_of`.
    """
    if not records:
        return block(heading, note("no image is certified yet"))
    counted = tally(records)
    radii = grid_of(counted) or (0.0, *RADII)
    clean = clean_accuracy(counted)
    shares = [("clean, the base classifier without noise", clean)] if clean else []
    shares += [("abstains", abstention_rate(counted))] if decides(counted, 0.0) else []
    shares += [(f"certified at radius {radius:g}", certified_accuracy(counted, radius)) for radius in radii]
    cells = [(name, f"{share.percent} %") for name, share in shares]
    words = f"Shares of all {counted.n:,} images with 95 % intervals; an abstention counts as wrong."
    words += f" At least {seen:,} of them are ones on which the network was trained." if seen else ""
    words += f" Noise: {noise}." if noise else ""
    if limit is not None and limit.radius <= radii[-1]:
        words += f" {want_of_samples(limit.sentence)}"
    return block(heading, rows([], cells), note(words))
