"""Splits: which names mean training, validation and test data, and which of several an asked-for one is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

USUAL = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "dev", "development"),
    "test": ("test", "testing", "tst"),
    "eval": ("eval", "evaluation"),  # validation to timm, test to datasets
    "trainval": ("trainval", "trainvalid"),
}
FILLERS = "set|sets|split|data|dataset|datasets|images|image|imgs|img|folder|files|dir"
WORDS = {word: role for role, words in USUAL.items() for word in words}
GLUED = re.compile(rf"({'|'.join(sorted(WORDS, key=len, reverse=True))})({FILLERS})")


def split_roles(names: Iterable[str]) -> dict[str, str]:
    """Give the names that look like splits, with what they mean: train, val, test, eval or trainval.

    Case, digits, separators and words such as "set" do not matter: `Train`, `train_set`, `trainingData`, `val2017`.
    Names with a word of their own count where another split has the same one: `seg_train` beside `seg_test`.

    Example:
        >>> split_roles(["Training", "val2017", "cat"])
        {'Training': 'train', 'val2017': 'val'}
        >>> split_roles(["bullet_train", "goldfish"]), split_roles(["seg_train", "seg_test", "seg_pred"])
        ({}, {'seg_train': 'train', 'seg_test': 'test'})
    """
    read = {name: _read(name) for name in names}
    shared = Counter(rest for rest, role in {(rest, role) for role, rest in read.values() if role})
    return {name: role for name, (role, rest) in read.items() if role and (not rest or shared[rest] > 1)}


def answering(names: Iterable[str], split: str) -> list[str]:
    """Give the names that an asked-for split may be: the one spelt so, else those that mean the same.

    `eval` is whichever of validation and test has no name of its own.

    Example:
        >>> answering(["Training", "Validation"], "val"), answering(["train", "eval"], "test")
        (['Validation'], ['eval'])
        >>> answering(["train", "val"], "test"), answering(["train1", "train2"], "train")
        ([], ['train1', 'train2'])
    """
    names = list(names)
    if split in names:
        return [split]
    spelt = [name for name in names if name.casefold() == split.casefold()]
    if spelt:
        return spelt
    roles, asked = split_roles(names), split_roles([split]).get(split)
    found = [name for name, role in roles.items() if role == asked]
    if not found and asked in ("val", "test"):
        found = [name for name, role in roles.items() if role == "eval"]
    return found


def pick(parts: Any, split: str, name: str) -> Any:
    """Take one split of several, by its name or by another usual one of the same meaning.

    Raises:
        ValueError: If there is no such split, or several may be meant.
    """
    found = answering(parts, split)
    if len(found) > 1:
        raise ValueError(f"expected one split of {name} for '{split}', got {', '.join(found)}: ask for one by its name")
    if not found:
        way = ""
        if split_roles([split]).get(split) in ("val", "test") and "train" in split_roles(parts).values():
            way = ": sort some images into a folder of that name, or have finetune hold a part out (val=, --val)"
        raise ValueError(f"expected one of the splits {', '.join(parts)} of {name}, got '{split}'{way}")
    return parts[found[0]]


def _read(name: str) -> tuple[str | None, tuple[str, ...]]:
    """Give what a name means as a split, if it has one word for it, and the words it has besides."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    words = [word for word in re.split(r"[\W_\d]+", spaced.casefold()) if word]
    words = [part for word in words for part in _unglued(word)]
    if [WORDS.get(word) for word in words[:2]] == ["train", "val"]:
        words[:2] = ["trainval"]
    roles = [WORDS[word] for word in words if word in WORDS]
    rest = tuple(word for word in words if word not in WORDS and not re.fullmatch(FILLERS, word))
    return (roles[0], rest) if len(roles) == 1 else (None, rest)


def _unglued(word: str) -> tuple[str, ...]:
    """Take `trainset` apart."""
    match = GLUED.fullmatch(word)
    return match.groups() if match else (word,)
