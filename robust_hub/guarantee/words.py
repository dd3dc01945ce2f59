"""A certificate in plain words, for readers who have never heard of randomized smoothing.

Nothing is claimed here beyond the certificate: what is cut is cut downwards, and what it does not say is said too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # certificates show these words
    from robust_hub.guarantee.certificate import Certificate

LEVELS = 255  # of an 8-bit value
_SMALL = 1e-9  # failure probabilities below are said as they are, not as a percentage
_LONGEST = 200  # characters of a class's name


def meaning(certificate: Certificate, names: Sequence[str] | None = None, shape: Sequence[int] | None = None) -> str:
    """Say in plain words what a certificate promises, and what it does not.

    Args:
        certificate: Any certificate, an abstention too.
        names: Names of the classes in the order of the outputs; by default the certificate's own, else numbers.
        shape: Shape of the image, (C, H, W), to say a radius in values of pixels; by default the certificate's own.

    Returns:
        A few sentences on one line.

    Raises:
        ValueError: If there are other than as many names as classes, or shape is no (C, H, W).

    Example:
        >>> from robust_hub.guarantee.certificate import certify_counts
        >>> certificate = certify_counts([98, 2], [990, 10], sigma=0.25)
        >>> said = meaning(certificate, ("cat", "dog"), (3, 32, 32))
        >>> print(said[: said.index(" That")])
        With 99.9 % confidence over the noise drawn, the answer at sigma 0.25 is "cat" for every image closer than \
0.494 to this one (l2 distance, pixel values from 0 to 1).
        >>> print(meaning(certify_counts([6, 4], [52, 48], sigma=0.25), ("cat", "dog")))
        No answer, which is no error: "cat" got 52 of 100 votes, too few to be sure (99.9 %) that it is the answer to \
more than half of all noisy copies. Nothing is promised of this image at sigma 0.25; more samples or another sigma \
may give an answer.
    """
    return " ".join([promise(certificate, names, shape), *small_print(certificate)])


def promise(certificate: Certificate, names: Sequence[str] | None = None, shape: Sequence[int] | None = None) -> str:
    """Say what a certificate promises, the first part of `meaning`; arguments and errors are the same."""
    if certificate.abstained:
        return _abstention(certificate, names)
    sure = f"With {confidence(certificate.alpha)} confidence over the noise drawn"
    answer = f'the answer at sigma {_number(certificate.sigma)} is "{class_in_words(certificate, names)}" for'
    said = (
        f"{sure}, {answer} every image closer than {length(certificate.radius)} to this one (l2 distance, pixel "
        f"values from 0 to 1).{_covered(certificate, shape)}"
        if certificate.radius > 0
        else f"{sure}, {answer} this very image (radius 0): nothing is said of changed ones."
    )
    return " ".join([said, *_grid(certificate)])


def small_print(certificate: Certificate) -> list[str]:
    """Say what a certificate does not promise and what it rests on, a sentence each: the rest of `meaning`."""
    if certificate.abstained:
        return []
    said = [
        "The answer is the smoothed classifier's, the vote of the network over noisy copies; that it is right is not "
        "promised, nor what the network says without noise."
    ]
    if certificate.reproduction:
        said.append(
            "The seed of the noise was given by the caller: the confidence is right only if network and image were "
            "not chosen for it."
        )
    if certificate.noise == "lattice255":
        said.append("Of an image between the 8-bit levels, the promise is about noisy copies rounded to levels.")
    if certificate.noise == "float32":
        said.append("Noise in floating point: of a network made to exploit its rounding, nothing is promised.")
    return said


def headline(certificate: Certificate, names: Sequence[str] | None = None) -> str:
    """Say a certificate in a few words, such as "cat, radius 0.494" or "no answer".

    Args:
        certificate: Any certificate.
        names: Names of the classes, as in `meaning`.

    Returns:
        The words; a radius is cut downwards.

    Raises:
        ValueError: If there are other than as many names as classes.

    Example:
        >>> from robust_hub.guarantee.certificate import certify_counts
        >>> headline(certify_counts([98, 2], [990, 10], sigma=0.25), ("cat", "dog"))
        'cat, radius 0.494'
    """
    name = class_in_words(certificate, names)
    return name if certificate.abstained else f"{name}, radius {length(certificate.radius)}"


def class_in_words(certificate: Certificate, names: Sequence[str] | None = None) -> str:
    """Name the certified class: by the names given, else the certificate's own, else by number; or "no answer"."""
    _check_names(certificate, names)
    if certificate.abstained:
        return "no answer"
    own = certificate.class_name if names is None else names[certificate.prediction]
    return name_in_words(certificate.prediction, own)


def name_in_words(index: int, name: object) -> str:
    r"""Give a class's name as it may stand in a sentence, else its number.

    Names may be a stranger's: a mark in one that turns the direction of writing would turn the digits of the radius
    beside it, too.

    Args:
        index: The class.
        name: Its name; None where it has none.

    Returns:
        Characters that print, what does not as Python writes it; at most 200 of them. A blank name names nothing.

    Example:
        >>> name_in_words(3, "cat"), name_in_words(3, " "), name_in_words(3, "\u202ecat")
        ('cat', 'class 3', '\\u202ecat')
    """
    text = "" if name is None else str(name).strip()
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return text or f"class {index}"


def length(radius: float) -> str:
    """Write a radius with three decimals, or two digits where it is below 0.001, cut downwards."""
    return _cut(radius, 3 if radius >= 0.001 or radius == 0 else 1 - math.floor(math.log10(radius)))


def confidence(alpha: float) -> str:
    """Write 1 - alpha in percent, cut downwards, such as "99.9 %"."""
    error = Decimal(repr(alpha)) * (1 if alpha < _SMALL else 100)
    error = error.quantize(Decimal(1).scaleb(min(error.adjusted(), 0) - 1), ROUND_UP).normalize()
    return f"1 - {error:.2g}" if alpha < _SMALL else f"{100 - error:f} %"


def _covered(certificate: Certificate, shape: Sequence[int] | None) -> str:
    """Say what a radius covers in whole levels of 8-bit values, exactly; nothing where the shape is not known."""
    origin = certificate.origin
    shape = origin.image_shape if shape is None and origin is not None else shape
    if shape is None:
        return ""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"expected the shape of an image, (C, H, W), got {tuple(shape)}: leave it out if unknown")
    return f" {covered(certificate.radius, shape)}."


def covered(radius: float, shape: Sequence[int]) -> str:
    """Say which changes of an 8-bit image lie within a radius, in whole levels of 255, each of them covered.

    Args:
        radius: Certified l2 radius, [0, 1]-pixel units, above 0.
        shape: Shape of the image, (C, H, W).

    Returns:
        A sentence without its end.

    Example:
        >>> print(covered(0.557, (3, 32, 32)))
        That covers a change of any one of its 3,072 values (3 a pixel) by up to 142 of 255 levels, of all of them by \
up to 2, and every other whose squared levels have a sum of at most 20,173
    """
    squared = max(0, math.ceil((LEVELS * Fraction(radius)) ** 2) - 1)  # as in `Certificate.squared_distance`
    values = math.prod(shape)
    if squared >= values * LEVELS**2:
        return "That covers every image of this size, whatever is on it"
    if squared == 0:
        return f"That covers no change by a whole level of {LEVELS}: of an 8-bit image, this one alone"
    what = f"its {values:,} values ({shape[0]} a pixel)" if shape[0] > 1 else f"its {values:,} pixels"
    whole = min(values, squared // LEVELS**2)  # values that may become anything
    each = math.isqrt(squared // values)
    every = f"of all of them by up to {each}" if each else f"of any {squared:,} of them by 1"
    if whole == 0:
        one = f"a change of any one of {what} by up to {math.isqrt(squared)} of {LEVELS} levels, {every}"
    else:
        some = "one" if whole == 1 else f"{whole:,}"
        one = f"whatever becomes of any {some} of {what}, a change {every} of {LEVELS} levels"
    return f"That covers {one}, and every other whose squared levels have a sum of at most {squared:,}"


def _abstention(certificate: Certificate, names: Sequence[str] | None) -> str:
    _check_names(certificate, names)
    c = certificate
    sure = f"too few to be sure ({confidence(c.alpha)}) that it is the answer to"
    if c.n == 0:
        why = f"the first {c.n0:,} noisy copies left no hope that the samples of this plan would decide"
    else:
        leads = c.count == max(c.counts) and c.counts.count(c.count) == 1
        leader = _name(c.counts.index(c.count), names) if leads else "the class that was to be certified"
        goal = "more than half of all noisy copies" if c.bound == "complement" else "more copies than any other"
        smallest = c.radii[0] if c.radii else 0.0
        goal = f"{sure} {goal}" if smallest == 0 else f"too few for {_number(smallest)}, the smallest radius asked for"
        why = f"{leader} got {c.count:,} of {c.n:,} votes, {goal}"
    return (
        f"No answer, which is no error: {why}. Nothing is promised of this image at sigma {_number(c.sigma)}; "
        "more samples or another sigma may give an answer."
    )


def _grid(certificate: Certificate) -> list[str]:
    """Say, of a certificate that decided a grid of radii, why the radius is one of them."""
    if certificate.radii is None:
        return []
    grid = ", ".join(map(_number, certificate.radii))
    beyond = ", ".join(map(_number, certificate.out_of_reach))
    note = f"; {beyond} would take more than {certificate.limit:,} samples" if beyond and certificate.limit else ""
    return [f"Only the radii {grid} were tried{note}."]


def _check_names(certificate: Certificate, names: Sequence[str] | None) -> None:
    if names is not None and len(names) != len(certificate.counts):
        raise ValueError(f"expected {len(certificate.counts)} names, one a class, got {len(names)}: name them all")


def _name(index: int, names: Sequence[str] | None) -> str:
    return f"class {index}" if names is None else f'"{name_in_words(index, names[index])}"'


def _number(value: float) -> str:
    """Write a number that somebody chose, with as many digits as tell it from all others."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def _cut(value: float, digits: int) -> str:
    return f"{Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-digits), ROUND_DOWN):f}"
