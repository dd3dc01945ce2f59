"""What is told of the work on the way: samples that were counted, and nothing that changes a certificate."""

from __future__ import annotations

import io
import sys
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_hub.certification import smoothing
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.guarantee.plans import Plan, fixed_plan, radius_plan, sequential_plan

PIXELS = {"mean": 0.5, "std": 0.25}


def tiny() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(96, 4))


def image() -> Tensor:
    return torch.randint(0, 256, (3, 8, 8), generator=torch.Generator().manual_seed(3)) / 255


PLANS = (fixed_plan(20, 300), sequential_plan((0.05, 0.1, 0.2), n=512), radius_plan(0.05, n=4096))


@pytest.mark.parametrize("batch_size", [7, 64, None])
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.most)
def test_whoever_listens_changes_no_vote(plan: Plan, batch_size: int | None) -> None:
    smoothed = SmoothedClassifier(tiny(), **PIXELS)
    told: list[int] = []
    alone = smoothed.certify(image(), 0.25, plan=plan, batch_size=batch_size, seed=5)
    heard = smoothed.certify(image(), 0.25, plan=plan, batch_size=batch_size, seed=5, progress=told.append)
    assert heard == alone and heard.to_json() == alone.to_json()
    assert min(told) > 0 and sum(told) >= alone.samples


def test_every_sample_is_told_once() -> None:
    told: list[int] = []
    certificate = SmoothedClassifier(tiny(), **PIXELS).certify(
        image(), 0.25, n0=20, n=300, batch_size=64, seed=5, progress=told.append
    )
    assert told == [64] * 5 and sum(told) == certificate.samples


class Terminal(io.StringIO):
    """A stream that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_bar_where_nobody_listens_and_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    certifier = SmoothedClassifier(tiny(), **PIXELS)
    short: dict[str, Any] = {"n0": 20, "n": 300, "batch_size": 64, "seed": 5}

    def said(stream: io.StringIO | None, **more: Any) -> str:
        monkeypatch.setattr(sys, "stderr", stream)
        certifier.certify(image(), 0.25, **short, **more)
        return "" if stream is None else stream.getvalue()

    assert said(Terminal()) == ""  # it took no second
    monkeypatch.setattr(smoothing, "_WORTH_A_BAR", 0.0)
    monkeypatch.setattr(smoothing, "tqdm", partial(smoothing.tqdm, mininterval=0.0))
    assert "320/320" in said(Terminal())
    assert said(Terminal(), progress=lambda _: None) == said(io.StringIO()) == said(None) == ""


class EnoughError(Exception):
    """What a listener raises that has heard enough."""


def test_what_it_raises_stops_the_work_and_leaves_the_network_as_it_was() -> None:
    model, calls = tiny().train(), 0
    model.register_forward_pre_hook(lambda *_: told.append("batch"))
    told: list[str] = []

    def listen(counted: int) -> None:
        nonlocal calls
        calls += counted
        if calls >= 128:
            told.append("enough")
            raise EnoughError

    smoothed = SmoothedClassifier(model, **PIXELS)
    with pytest.raises(EnoughError):
        smoothed.certify(image(), 0.25, n=100_000, batch_size=64, seed=5, progress=listen)
    assert calls == 128 and told[-1] == "enough"
    assert model.training and model[3].training
    assert smoothed.certify(image(), 0.25, n=300, seed=5) == SmoothedClassifier(model, **PIXELS).certify(
        image(), 0.25, n=300, seed=5
    )
