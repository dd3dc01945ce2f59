"""One certificate as a picture: the image, noisy copies of it, the votes, the radius at each sigma, and words."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_hub.evidence.figures import image_of, literal, new_figure, save
from robust_hub.guarantee.certificate import Certificate
from robust_hub.guarantee.reach import largest_of
from robust_hub.guarantee.words import class_in_words, headline, length, meaning, name_in_words

Pixels = NDArray[np.floating[Any]]
Names = Sequence[str] | None
WIDTH = 5.0  # inches: on a phone, its letters are as large as those of a page
BARS, COPIES = 5, 3  # classes and noisy copies that are shown
LINE = 70  # letters of the caption's lines
NAME = 22  # letters of a class's name that fit beside its bar
SEVERAL = (
    "Each sigma makes a classifier of its own, and each radius is a promise of its own: the largest of them is not "
    "one for all."
)
_SMALL, _TEXT, _TITLE = 9, 10, 13  # points
_ANSWER, _REST, _OTHER, _LINE = "#1f77b4", "#a8b0b8", "#e07b1a", "#333333"
_BOX = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}  # behind what a line may cross


def draw_certificate(
    image: Pixels,
    noisy: Sequence[Pixels],
    certificates: Sequence[Certificate],
    *,
    classes: Names = None,
    chosen: int = 0,
) -> bytes:
    """Draw one image's certificates, one a sigma, as the bytes of a PNG.

    Args:
        image: The image as the network sees it, pixels in [0, 1], float (C, H, W).
        noisy: For each certificate some noisy copies at its sigma, float (B, C, H, W), B may be 0; clipped here, for
            the eye alone.
        certificates: Certificates of the image, each of another sigma.
        classes: Names of the classes; by default numbers, and the name that a certificate has.
        chosen: Index of the certificate whose votes are drawn and whose meaning stands below.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is no certificate, or the images or names are not as described.

    Example:
        >>> from robust_hub.guarantee.certificate import certify_counts
        >>> certificate = certify_counts([98, 2], [990, 10], sigma=0.25)
        >>> image = np.full((3, 8, 8), 0.5)
        >>> draw_certificate(image, [image[None]], [certificate], classes=("cat", "dog"))[1:4]
        b'PNG'
    """
    return image_of(_draw(image, noisy, certificates, classes, chosen))


def plot_certificate(
    image: Pixels,
    noisy: Sequence[Pixels],
    certificates: Sequence[Certificate],
    out: str | Path,
    *,
    classes: Names = None,
    chosen: int = 0,
) -> Path:
    """Draw the same picture into a file.

    Args:
        image: As in `draw_certificate`, like all others but one.
        noisy: Noisy copies for each certificate.
        certificates: Certificates of the image.
        out: Image file to write (PNG unless its suffix names another format); its folder is made if absent.
        classes: Names of the classes.
        chosen: Index of the certificate that is explained.

    Returns:
        The file written.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: As in `draw_certificate`, or if the file cannot be written.
    """
    return save(_draw(image, noisy, certificates, classes, chosen), out)


def of_several(certificates: Sequence[Certificate]) -> str:
    """Say that the largest of several radii is no promise; nothing where fewer than two have one."""
    return SEVERAL if sum(not one.abstained for one in certificates) > 1 else ""


def telling(certificates: Sequence[Certificate]) -> int:
    """Give the index of the certificate to explain: the first with an answer, else the first."""
    return next((k for k, one in enumerate(certificates) if not one.abstained), 0)


def _draw(
    image: Pixels,
    noisy: Sequence[Pixels],
    certificates: Sequence[Certificate],
    classes: Names,
    chosen: int,
) -> Any:
    _check(image, noisy, certificates)
    certificate = certificates[chosen]
    caption = _wrapped(meaning(certificate, classes, image.shape))
    caption += ["", *_wrapped(text)] if (text := of_several(certificates)) else []
    panels = _panels(image, noisy, certificates, chosen)
    votes = _most_voted(certificate)
    heights = [1.95, 0.95 + 0.27 * len(votes), 1.0 + 0.3 * len(certificates), 0.1 + 0.155 * len(caption)]
    figure = new_figure((WIDTH, sum(heights) + 0.3), dpi=200)
    figure.get_layout_engine().set(w_pad=0.08)
    answer = headline(replace(certificate, class_name=_short(class_in_words(certificate, classes), 20)))
    figure.suptitle(literal(f"{answer}  (sigma {certificate.sigma:g})"), fontsize=_TITLE)
    rows = figure.subfigures(4, 1, height_ratios=heights)
    for axes, (pixels, title) in zip(rows[0].subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _show(axes, pixels, title)
    _draw_votes(rows[1], certificate, votes, classes)
    _draw_radii(rows[2], certificates, certificate, classes)
    rows[3].text(0.03, 1.0, literal("\n".join(caption)), fontsize=_SMALL, va="top", linespacing=1.15)
    return figure


def _check(image: Pixels, noisy: Sequence[Pixels], certificates: Sequence[Certificate]) -> None:
    if not certificates:
        raise ValueError("expected at least one certificate, got none: certify the image first")
    if np.ndim(image) != 3 or np.size(image) == 0:
        raise ValueError(f"expected an image of shape (C, H, W), got {np.shape(image)}: pass one image")
    if len(noisy) != len(certificates):
        raise ValueError(
            f"expected noisy copies for each of {len(certificates)} certificates, got {len(noisy)}: pass an array of "
            "shape (0, C, H, W) for none"
        )
    for copies in noisy:
        if np.ndim(copies) != 4 or np.shape(copies)[1:] != np.shape(image):
            raise ValueError(
                f"expected noisy copies of shape (B, {', '.join(map(str, np.shape(image)))}), got {np.shape(copies)}"
            )


def _panels(
    image: Pixels, noisy: Sequence[Pixels], certificates: Sequence[Certificate], chosen: int
) -> list[tuple[Pixels, str]]:
    """Choose what is shown beside the image: copies of one sigma, or one of each of several."""
    titled = [(copies, f"sigma {one.sigma:g}") for copies, one in zip(noisy, certificates, strict=True) if len(copies)]
    if len(titled) > 1:
        first = max(0, min(chosen - 1, len(titled) - COPIES))
        shown = [(copies[0], title) for copies, title in titled[first : first + COPIES]]
    else:
        shown = [(copy, title) for copies, title in titled for copy in copies[:COPIES]]
    return [(image, "the image")] + [(np.clip(copy, 0, 1), title) for copy, title in shown]


def _show(axes: Any, pixels: Pixels, title: str) -> None:
    """Show an image, (C, H, W); other channels than grey, colours or colours with alpha by their mean."""
    flat = pixels if len(pixels) in (1, 3, 4) else pixels.mean(axis=0, keepdims=True)
    axes.imshow(flat[0] if len(flat) == 1 else np.moveaxis(flat, 0, -1), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, fontsize=_SMALL)
    axes.axis("off")


def _most_voted(certificate: Certificate) -> list[tuple[int, int]]:
    """Give class and votes of the classes with most of them; without any votes, none."""
    votes = [(c, v) for c, v in enumerate(certificate.counts) if v]
    return sorted(votes, key=lambda pair: (-pair[1], pair[0]))[:BARS]


def _draw_votes(part: Any, certificate: Certificate, votes: list[tuple[int, int]], classes: Names) -> None:
    axes, n, rows = part.subplots(), certificate.n, range(len(votes))
    colours = [_ANSWER if c == certificate.prediction else _REST for c, _ in votes]
    axes.barh(rows, [v for _, v in votes], color=colours, height=0.7)
    axes.set_yticks(rows, [literal(_short(_name(certificate, c, classes), NAME)) for c, _ in votes], fontsize=_TEXT)
    for row, (_, v) in zip(rows, votes, strict=True):
        _write(axes, f"{v:,}", v, row)
    axes.set(xlim=(0, 1.18 * max(n, 1)), ylim=(max(len(votes), 1) - 0.4, -0.6), xticks=[])
    half = certificate.bound == "complement" and n > 0
    if half:
        axes.axvline(n / 2, color=_LINE, linestyle=":", linewidth=1.2)
    _title(part, f"{n:,} noisy copies vote{_left_out(certificate)}{'; dotted: half' if half else ''}")
    _clear(axes)


def _left_out(certificate: Certificate) -> str:
    """Say which classes have no bar, if any."""
    voted, total = sum(v > 0 for v in certificate.counts), len(certificate.counts)
    if voted > BARS:
        return f" (top {BARS} of {total:,} classes)"
    return f" (no vote for {total - voted:,} more)" if 0 < voted < total else ""


def _draw_radii(part: Any, certificates: Sequence[Certificate], chosen: Certificate, classes: Names) -> None:
    axes, limits = part.subplots(), [largest_of(one) for one in certificates]
    most = max([one.radius for one in certificates] + [limit or 0.0 for limit in limits]) or 1.0
    for row, (one, limit) in enumerate(zip(certificates, limits, strict=True)):
        same = one.prediction == chosen.prediction
        axes.barh(row, one.radius, color=_ANSWER if same else _OTHER, height=0.6)
        if limit:
            axes.plot([limit, limit], [row - 0.42, row + 0.42], color=_LINE, linestyle="--", linewidth=1.4)
        name = "" if same else f" {_short(class_in_words(one, classes), NAME)}"
        _write(axes, "no answer" if one.abstained else f"{length(one.radius)}{name}", one.radius, row)
    axes.set_yticks(range(len(certificates)), [f"sigma {one.sigma:g}" for one in certificates], fontsize=_TEXT)
    axes.set(xlim=(0, 1.22 * most), ylim=(len(certificates) - 0.5, -0.5))
    axes.tick_params(axis="x", labelsize=_SMALL)
    axes.set_xlabel("l2 distance, pixels from 0 to 1", fontsize=_SMALL)
    _title(part, f"Certified radius{_limit_in_words(certificates, limits)}")
    _clear(axes)


def _write(axes: Any, text: str, x: float, row: int) -> None:
    """Write beside the end of a bar."""
    how = {"textcoords": "offset points", "va": "center", "fontsize": _TEXT, "bbox": _BOX, "zorder": 3}
    axes.annotate(literal(text), (x, row), (5, 0), **how)


def _title(part: Any, text: str) -> None:
    part.suptitle(text, x=0.03, ha="left", fontsize=_TEXT)


def _limit_in_words(certificates: Sequence[Certificate], limits: Sequence[float | None]) -> str:
    """Say what the dashed lines are, such as "limit of n = 1,000"."""
    if not any(limits):
        return ""
    if any(one.radii is not None for one in certificates):
        return "; dashed: the largest that was tried"
    samples = sorted({one.n for one in certificates if one.n})
    return f"; dashed: limit of {f'n = {samples[0]:,}' if len(samples) == 1 else 'so many'} copies"


def _clear(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _name(certificate: Certificate, index: int, classes: Names) -> str:
    own = certificate.class_name if index == certificate.prediction else None
    return name_in_words(index, own if classes is None else classes[index])


def _short(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, LINE)
