"""Write docs/results.md from results.md.jinja and the records of the shelf; with --check only compare.

Run it from anywhere: python tools/make_results.py [--check]

The template holds the prose. Each number of ours in it is looked up, and what a sentence claims of numbers is checked:
a claim that the records no longer bear out is named, and no page is written. The records come from `robust-hub
reproduce` and `robust-hub shelve`; in docs/evidence the learning rates from tools/compare_rates.py and a run like it on
an accelerator, batch norm's part from tools/batch_norm.py; accuracies under noise from tools/under_noise.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from pages import DOCS, put_or_check
from results_records import is_finished, network, shares
from results_tables import each_sigma, larger, longer, noise_kinds, noises, norms, single_sigmas, tables
from results_trials import (
    FLOWERS_RATES,
    LARGER_RATES,
    batch_norm,
    half_width,
    minutes,
    rates,
    right_under_noise,
    statistics,
    training_accuracy,
    training_of,
    trial,
    under_noise,
    votes,
)

PAGE = DOCS / "results.md"
TEMPLATE = Path(__file__).with_name("results.md.jinja")
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_FRACTIONS: dict[float, str] = {
    10: "a tenth",
    20: "a fifth",
    25: "a quarter",
    30: "three tenths",
    100 / 3: "a third",
    40: "two fifths",
    50: "half",
    60: "three fifths",
    200 / 3: "two thirds",
    70: "seven tenths",
    75: "three quarters",
    80: "four fifths",
    90: "nine tenths",
}
_NEAR = 3  # points that a share may be from the fraction that it is called
# What the template calls: tables, then figures.
TABLES = {
    "tables": tables,
    "noises": noises,
    "each_sigma": each_sigma,
    "larger_network": larger,
    "norms": norms,
    "single_sigmas": single_sigmas,
    "under_noise": under_noise,
    "longer_pretraining": longer,
    "rates": rates,
    "larger_rates": lambda: rates(LARGER_RATES),
    "flowers_rates": lambda: rates(FLOWERS_RATES, "images of the validation split of Flowers-102"),
    "batch_norm": batch_norm,
}
FIGURES = {
    "network": network,
    "is_finished": is_finished,
    "shares": shares,
    "noise_kinds": noise_kinds,
    "trial": trial,
    "votes": votes,
    "half_width": half_width,
    "LARGER_RATES": LARGER_RATES,
    "statistics": statistics,
    "seen": right_under_noise,
    "training_of": training_of,
    "training_accuracy": training_accuracy,
    "minutes": minutes,
}


def whole(value: float) -> str:
    """Word a number without decimals."""
    return f"{value:.0f}"


def in_words(value: float) -> str:
    """Word a small number, rounded, such as "ten"."""
    count = round(value)
    return _NUMBERS[count] if 0 <= count < len(_NUMBERS) else str(count)


def span(values: Sequence[float]) -> str:
    """Word the range of some numbers without decimals, such as "5 to 7"."""
    return " to ".join(dict.fromkeys((whole(min(values)), whole(max(values)))))


def listed(values: Sequence[float], digits: int = 1) -> str:
    """Word some numbers in their order, such as "72, 67 and 48"."""
    *first, last = (f"{value:.{digits}f}" for value in values)
    return f"{', '.join(first)} and {last}" if first else last


def fraction(*percents: float) -> str:
    """Word percentages that are all near one fraction, such as "nine tenths".

    Raises:
        ValueError: If there is none.
    """
    nearest = [min(_FRACTIONS, key=lambda near: abs(percent - near)) for percent in percents]
    far = any(abs(percent - near) > _NEAR for percent, near in zip(percents, nearest, strict=True))
    if far or len(set(nearest)) > 1:
        got = ", ".join(f"{percent:.1f}" for percent in percents)
        raise ValueError(f"expected percentages near one fraction, got {got}: word them otherwise in {TEMPLATE.name}")
    return _FRACTIONS[nearest[0]]


def up_to(percent: float) -> str:
    """Word the smallest fraction that a percentage does not exceed, such as "two thirds".

    Raises:
        ValueError: If there is none.
    """
    for near, word in _FRACTIONS.items():
        if percent <= near:
            return word
    raise ValueError(f"expected a percentage up to 90, got {percent:.1f}: word it otherwise in {TEMPLATE.name}")


WORDS: dict[str, Callable[..., str]] = {
    "whole": whole,
    "in_words": in_words,
    "span": span,
    "listed": listed,
    "fraction": fraction,
    "up_to": up_to,
}


class Claims:
    """What the page says of its numbers, and what of it is false."""

    def __init__(self) -> None:
        self.false: list[str] = []

    def says(self, words: str, holds: bool) -> str:
        """Give words of a sentence, and note them if they do not hold."""
        if not holds:
            self.false.append(" ".join(words.split()))
        return words

    def check(self) -> None:
        """Refuse a page that says what does not hold.

        Raises:
            ValueError: With the words of every claim that is false.
        """
        if self.false:
            said = "; ".join(f'"{words}"' for words in self.false)
            raise ValueError(f"expected what {TEMPLATE.name} says, got other records for {said}: write them anew there")


def render(template: str, names: dict[str, Any]) -> str:
    """Fill a template in, a number that has decimals with one of them.

    Raises:
        ValueError: If it claims what does not hold.
        UndefinedError: If it has a name that is not there.
    """
    environment = Environment(
        undefined=StrictUndefined,
        finalize=lambda value: f"{value:.1f}" if isinstance(value, float) else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    claims = Claims()
    text = environment.from_string(template).render(**WORDS, says=claims.says, **names)
    claims.check()
    return text


def page() -> str:
    """Make the page."""
    return render(TEMPLATE.read_text(), {**FIGURES, **TABLES})


if __name__ == "__main__":
    try:
        made = page()
    except ValueError as error:
        raise SystemExit(str(error)) from None
    put_or_check(PAGE, made, "tools/make_results.py")
