"""An experiment: its folders, what it asks for, and that it says in what something else was made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from robust_hub.evidence.records import Run
from robust_hub.paper.experiment import Experiment
from robust_hub.paper.rows import CLEAN, MIXED, SCALES, Row, Scale
from robust_hub.paper.tables import TABLES
from robust_hub.provenance import Provenance
from robust_hub.training.sameness import Training

ROW = Row("mixed", "digits", CLEAN, MIXED)
SCALE = Scale(
    "tiny",
    "a test",
    "resnet18s",
    "shapes",
    pretrain={"epochs": 3},
    scratch={"epochs": 4, "weight_decay": 0.01},
    tune={"learning_rate": 0.02, "head_scale": 300.0},
    head={"learning_rate": 0.3},
    long={"epochs": 5, "head_scale": 1000.0},
    noisy={"learning_rate": 0.4, "head_scale": 1.0},
    few={"flowers": {"epochs": 70}},
    certify={"n": 50, "radii": (0.0, 0.1), "alpha": 0.05, "seed": 0, "batch_size": 64},
)
EXPERIMENT = Experiment(ROW, SCALE, Path("out"))
PRETRAINED = Provenance(job="pretrain", sigmas=MIXED, epochs=3, learning_rate=0.1, weight_decay=5e-4)
TUNED = Provenance(
    job="finetune", epochs=1, learning_rate=0.02, weight_decay=0.0, head_scale=300.0, head_only=False, base=PRETRAINED
)


def test_its_folders() -> None:
    assert EXPERIMENT.pretrained_folder == Path("out/tiny/pretrained/ln_0-0.25-0.5-1")
    assert EXPERIMENT.tuned_folder == Path("out/tiny/tuned/digits_ln_0-0.25-0.5-1_then_0_full")
    assert EXPERIMENT.certified_folder(0.5) == Path("out/tiny/certified/digits_ln_0-0.25-0.5-1_then_0_full/sigma_0.5")
    assert (EXPERIMENT.architecture, EXPERIMENT.data) == ("resnet18s_ln", ("digits", "shapes"))
    scratch = Experiment(replace(ROW, pretrained=None, tuned=(0.25,), norm="gn"), SCALE, Path("out"))
    assert scratch.tuned_folder == Path("out/tiny/tuned/digits_gn_scratch_then_0.25_full")
    assert scratch.data == ("digits",)


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({}, {"epochs": 1, "learning_rate": 0.02, "head_scale": 300.0}),
        ({"long": True}, {"epochs": 5, "learning_rate": 0.02, "head_scale": 1000.0}),
        ({"tuned": (0.25,)}, {"epochs": 1, "learning_rate": 0.4, "head_scale": 1.0}),
        ({"tuned": (0.25,), "long": True}, {"epochs": 5, "learning_rate": 0.4, "head_scale": 1.0}),
        ({"dataset": "flowers"}, {"epochs": 1, "learning_rate": 0.02, "head_scale": 300.0}),
        ({"dataset": "flowers", "long": True}, {"epochs": 70, "learning_rate": 0.02, "head_scale": 1000.0}),
        ({"head_only": True}, {"epochs": 1, "learning_rate": 0.3, "head_only": True}),
        ({"head_only": True, "tuned": (0.25,)}, {"epochs": 1, "learning_rate": 0.3, "head_only": True}),
    ],
)
def test_the_fine_tuning_that_is_asked_for(row: dict[str, Any], asked: dict[str, Any]) -> None:
    experiment = Experiment(replace(ROW, **row), SCALE)
    wanted = Training.asked("finetune", experiment.row.tuned, **{"weight_decay": 0.0, **asked})
    assert experiment.asked_training == wanted


def test_the_pretraining_that_is_asked_for() -> None:
    assert EXPERIMENT.asked_pretraining == Training.asked(
        "pretrain", MIXED, epochs=3, learning_rate=0.1, weight_decay=5e-4
    )
    scratch = Experiment(replace(ROW, pretrained=None, tuned=(0.25,)), SCALE)
    assert scratch.asked_training == Training.asked("pretrain", (0.25,), epochs=4, learning_rate=0.1, weight_decay=0.01)


def test_every_row_at_every_scale_asks_for_something_that_can_be_run() -> None:
    for scale in SCALES.values():
        for experiment in (Experiment(row, scale) for table in TABLES.values() for row in table.rows):
            assert experiment.asked_training.options.epochs >= 1
            assert experiment.row.pretrained is None or experiment.asked_pretraining.job == "pretrain"
            assert experiment.asked_certification["dtype"] == "bfloat16"


def test_what_has_no_effect_on_the_weights_is_kept_and_not_compared() -> None:
    experiment = Experiment(ROW, replace(SCALE, tune={**SCALE.tune, "num_workers": 2}))
    assert experiment.asked_training.options.num_workers == 2
    assert experiment.training_difference(TUNED) == ""


def test_an_option_that_no_training_has_is_an_error() -> None:
    with pytest.raises(TypeError, match="epoch"):
        _ = Experiment(ROW, replace(SCALE, tune={"epoch": 2})).asked_training


def test_the_certification_that_is_asked_for() -> None:
    asked = EXPERIMENT.asked_certification
    assert (asked["n"], asked["alpha"], asked["every"], asked["seed"]) == (50, 0.05, 20, 0)
    assert (asked["plan"], asked["dtype"]) == ("sequential", "float32") and "batch_size" not in asked


@pytest.mark.parametrize(
    ("row", "provenance", "said"),
    [
        ({}, TUNED, ""),
        ({"pretrained": (0.25,)}, TUNED, "a pretraining with sigmas [0.0, 0.25, 0.5, 1.0], not [0.25]"),
        ({"tuned": (0.25,)}, TUNED, "sigmas [0.0], not [0.25]"),
        ({"head_only": True}, TUNED, "head_only False, not True"),
        ({"pretrained": None}, TUNED, "job finetune, not pretrain"),
        ({}, replace(TUNED, base=None), "a pretraining with job None, not pretrain"),
        ({}, None, "job None, not finetune"),
        (
            {},
            replace(TUNED, options={"holdout": 2}),
            "options that no training has (expected holdout in (0, 1), got 2)",
        ),
    ],
)
def test_what_was_trained_otherwise_is_said(row: dict[str, Any], provenance: Provenance | None, said: str) -> None:
    assert Experiment(replace(ROW, **row), SCALE).training_difference(provenance) == said


def test_what_was_certified_otherwise_is_said() -> None:
    run = Run((), EXPERIMENT.asked_certification, Path("run"), provenance=TUNED)
    assert EXPERIMENT.certification_difference(run) == ""
    assert EXPERIMENT.certification_difference(replace(run, identity={**run.identity, "n": 60})) == "n 60, not 50"
    other = replace(run, provenance=replace(TUNED, epochs=2))
    assert EXPERIMENT.certification_difference(other) == "epochs 2, not 1"
    assert EXPERIMENT.certification_difference(replace(run, provenance=None)) == ""  # a run that does not say


def test_the_error_says_what_to_remove() -> None:
    error = EXPERIMENT.not_as_asked("tuned/x", "epochs 2, not 1")
    assert str(error).startswith("expected tuned/x to be made as scale tiny says, got epochs 2, not 1: remove it")
