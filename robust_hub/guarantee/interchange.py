"""Certificates as text: JSON that says its format, and that a stranger may have written.

What is read has the types of the dataclass's fields and lies within `LIMITS`, or ends in one sentence. Whether the
votes support what a certificate claims is another question: see `robust_hub.guarantee.audit`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

FORMAT, VERSION = "robust-hub certificate", 1
MOST_CHARACTERS = 4_000_000
_MOST_SAMPLES, _MOST_CLASSES, _MOST_RADII, _MOST_TEXT = 10**9, 100_000, 256, 200
_DIGITS = 40  # of a number; ours have at most 24
_ABOVE = 1 << 128  # of any number: seeds have up to 63 bits where we draw them
_HEX = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")
Limit = tuple[str, Callable[[Any], bool]]


def _samples(least: int, most: int = _MOST_SAMPLES) -> Limit:
    return f"a whole number from {least} to {most:,}", lambda v: least <= v <= most


def _one_of(*words: str) -> Limit:
    return f"one of {', '.join(words)}", lambda v: v in words


def _grid(values: Sequence[float]) -> bool:
    return len(values) <= _MOST_RADII and all(v >= 0 for v in values) and list(values) == sorted(set(values))


_POSITIVE: Limit = "a number above 0", lambda v: v > 0
_SHARE: Limit = "a number in [0, 1]", lambda v: 0 <= v <= 1
_RADII: Limit = f"at most {_MOST_RADII} increasing numbers from 0", _grid
_HASH: Limit = "a sha256, 64 hexadecimal digits", lambda v: _HEX.fullmatch(v) is not None

# field -> what it must be, beyond its type, in words and as a test
LIMITS: dict[str, Limit] = {
    "prediction": ("a class, or -1", lambda v: -1 <= v < _MOST_CLASSES),
    "radius": ("a number from 0", lambda v: v >= 0),
    "p_lower": _SHARE,
    "p_upper": _SHARE,
    "sigma": _POSITIVE,
    "alpha": ("a number from 1e-100 to below 1", lambda v: 1e-100 <= v < 1),
    "n0": _samples(0),
    "n": _samples(0),
    "count": _samples(0),
    "counts": (
        f"1 to {_MOST_CLASSES:,} counts of votes",
        lambda v: 1 <= len(v) <= _MOST_CLASSES and all(0 <= c <= _MOST_SAMPLES for c in v),
    ),
    "bound": _one_of("complement", "runner_up"),
    "plan": _one_of("fixed", "sequential", "closed_form", "radius"),
    "radii": _RADII,
    "undecided": _RADII,
    "out_of_reach": _RADII,
    "tau": ("a number in [0, 1)", lambda v: 0 <= v < 1),
    "noise": _one_of("float32", "lattice255"),
    "accepted": (
        f"at most {_MOST_RADII} pairs of samples and votes",
        lambda v: len(v) <= _MOST_RADII and all(0 <= votes <= look <= _MOST_SAMPLES for look, votes in v),
    ),
    "limit": _samples(1, 10_000_000),  # an audit then takes seconds a radius, not minutes
    "weights": _HASH,
    "logits": _HASH,
    "image": _HASH,
    "image_shape": ("3 whole numbers above 0", lambda v: len(v) == 3 and all(0 < size < 1 << 20 for size in v)),
    "dtype": _one_of("float64", "float32", "bfloat16", "float16"),
    "mean": ("one number a channel", lambda v: 1 <= len(v) <= 64),
    "std": ("one number above 0 a channel", lambda v: 1 <= len(v) <= 64 and min(v) > 0),
    "batch_size": _samples(1),
    "versions": (
        "at most 100 pairs of name and version, sorted by name",
        lambda v: len(v) <= 100 and [name for name, _ in v] == sorted({name for name, _ in v}),
    ),
}


def encode(value: Any) -> str:
    """Write a frozen dataclass as JSON, a line a field, floats at full precision.

    Args:
        value: The dataclass; its fields hold what `decode` can read.

    Returns:
        The text, ASCII, with a newline at its end.

    Raises:
        ValueError: If a field is not what it must be, so that nobody could read it back.
    """
    checked = _read(type(value), dataclasses.asdict(value), "the certificate")
    document = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(checked)}
    lines = (f" {json.dumps(key)}: {json.dumps(one, allow_nan=False)}" for key, one in document.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def is_text(text: str) -> bool:
    """Tell whether the format takes a text, such as the name of a class: at most 200 characters, all printable."""
    return len(text) <= _MOST_TEXT and text.isprintable()


def decode(kind: type[T], text: str) -> T:
    """Read a dataclass from JSON that anyone may have written, in bounded time and memory.

    Args:
        kind: The dataclass.
        text: What `encode` gives.

    Returns:
        The dataclass; `decode(type(value), encode(value)) == value`.

    Raises:
        ValueError: If the text is damaged, of another format or version, holds an unknown, missing or repeated field,
            or a value that its field can't have; one sentence.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"expected a certificate of at most {MOST_CHARACTERS:,} characters, got {len(text):,}")
    try:
        document = json.loads(
            text, object_pairs_hook=_object, parse_int=_whole, parse_float=_finite, parse_constant=_finite
        )
    except RecursionError:
        raise ValueError("expected a certificate, got lists or objects far too deep in one another") from None
    except json.JSONDecodeError as error:
        where = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise ValueError(f"expected a certificate in JSON, got {where}: the file is damaged") from None
    found = document.pop("format", None) if isinstance(document, dict) else None
    if found != FORMAT:
        raise ValueError(f'expected a certificate, JSON with the format "{FORMAT}", got {_shown(found)}')
    version = document.pop("version", None)
    if version != VERSION or isinstance(version, bool):
        raise ValueError(f"expected a certificate of version {VERSION}, got {_shown(version)}: a newer robust_hub's?")
    value: T = _read(kind, document, "the certificate")
    return value


def _read(kind: Any, value: Any, where: str) -> Any:
    """Make of a JSON value what a type says, or refuse it."""
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    if isinstance(kind, types.UnionType):  # X | None
        inner = next(one for one in get_args(kind) if one is not type(None))
        return None if value is None else _read(inner, value, where)
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            _refuse(where, "a list", value)
        first, *rest = get_args(kind)
        if rest == [...]:
            return tuple(_read(first, one, where) for one in value)
        if len(value) != 1 + len(rest):
            _refuse(where, f"lists of {1 + len(rest)}", value)
        return tuple(_read(one, part, where) for one, part in zip((first, *rest), value, strict=True))
    return _scalar(kind, value, where)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    fits = {int: Integral, float: int | float}.get(kind, kind)
    if not isinstance(value, fits) or (isinstance(value, bool) and kind is not bool):
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
        _refuse(where, words[kind], value)
    if kind is str and not is_text(value):
        _refuse(where, f"a text of at most {_MOST_TEXT} characters that print", value)
    if kind in (int, float) and not abs(value) < _ABOVE:  # not so, too, of a NaN that is to be written
        _refuse(where, "a finite number below 2^128", value)
    return kind(value)


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        _refuse(where, "an object of fields", value)
    hints, fields = get_type_hints(kind), dataclasses.fields(kind)
    unknown = sorted(value.keys() - {one.name for one in fields})
    if unknown:
        raise ValueError(f"expected only fields of {where}, got {_shown(unknown[0])}: a newer robust_hub's, or an edit")
    missing = [one.name for one in fields if one.name not in value]
    if missing:
        raise ValueError(f"expected all fields of {where}, got none called {missing[0]}: the file is damaged")
    values = {}
    for one in fields:
        values[one.name] = got = _read(hints[one.name], value[one.name], one.name)
        words, fits = LIMITS.get(one.name, ("", None))
        if fits is not None and got is not None and not fits(got):
            _refuse(one.name, words, value[one.name])
    return kind(**values)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in values if names.count(name) > 1) if len(names) < 1000 else names[0]
        raise ValueError(f"expected each field of a certificate once, got {_shown(twice)} twice: the file is damaged")
    return values


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"expected numbers of at most {_DIGITS} digits in a certificate, got one of {len(digits):,}")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits) if len(digits) <= _DIGITS else math.nan
    if not math.isfinite(value):
        raise ValueError(f"expected finite numbers of at most {_DIGITS} digits in a certificate, got {_shown(digits)}")
    return value


def _refuse(where: str, expected: str, value: Any) -> NoReturn:
    raise ValueError(f"expected {where} to be {expected}, got {_shown(value)}")


def _shown(value: Any) -> str:
    """Give a value of a stranger as it may be printed: cut, and on one line."""
    text = ascii(value if not isinstance(value, list | dict | tuple) else type(value).__name__)
    return text if len(text) <= 60 else f"{text[:57]}..."
