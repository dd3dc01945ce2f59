"""Where bfloat16 is fast, the warning where it is not, and that measuring it takes no minutes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import torch
from toys import toy_run

from robust_hub.training import bf16, speed
from robust_hub.training.bf16 import has_fast_bf16, warn_slow_bf16

CPU = torch.device("cpu")
ASKS = "import torch; from robust_hub.training.bf16 import has_fast_bf16; print(has_fast_bf16(torch.device('cpu')))"


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU without bfloat16 arithmetic, 40 times slower in it."""
    monkeypatch.setattr(bf16, "has_fast_bf16", lambda device: False)
    monkeypatch.setattr(bf16, "_slowdown", lambda device: 40.0)


@pytest.mark.parametrize(
    ("flags", "bound", "supported", "fast"),
    [
        ({"avx512_bf16": True}, "", True, True),
        ({"amx_bf16": True}, "AVX512_CORE_AMX", True, True),
        ({"bf16": True, "neon": True}, "", True, True),
        ({"avx2": True, "avx512_bf16": False}, "", True, False),
        ({"avx512_bf16": True}, "avx512_core", True, False),
        ({"avx512_bf16": True}, "AVX2", False, False),
    ],
)
def test_flags_and_the_bound_on_instructions_decide(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, bool], bound: str, supported: bool, fast: bool
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", bound)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    assert has_fast_bf16.__wrapped__(CPU) is fast


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_cuda_needs_units_of_ampere(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], fast: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_fast_bf16.__wrapped__(torch.device("cuda")) is fast
    assert not has_fast_bf16.__wrapped__(torch.device("mps"))


def test_a_bound_in_the_environment_stands_in_for_a_small_cpu() -> None:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", ASKS], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_warning_says_the_factor_and_what_to_do(slow: None) -> None:
    with pytest.warns(UserWarning, match="takes 40 times as long as in float32; take float32"):
        warn_slow_bf16(CPU, "take float32")


@pytest.mark.filterwarnings("error")
def test_a_fast_device_is_not_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bf16, "has_fast_bf16", lambda device: True)
    warn_slow_bf16(CPU, "")


def test_a_training_warns(slow: None) -> None:
    with pytest.warns(UserWarning, match="train without mixed precision"):
        toy_run(None, epochs=1, mixed_precision="bf16")
    with pytest.warns(UserWarning, match="take nmuon"):
        toy_run(None, epochs=1, optimizer="nadamuon")


def test_measuring_a_slow_type_takes_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def crawl(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        sides.append(len(a))
        time.sleep(0.001 * (len(a) / 128) ** 3)
        return a

    sides: list[int] = []
    monkeypatch.setattr(speed.torch, "mm", crawl)
    rate = speed.matrix_rate(CPU, torch.float32, seconds=0.1)
    assert max(sides) == 256
    assert 1e7 < rate < 2 * 128**3 / 0.001


def test_the_slowdown_is_that_of_two_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {torch.float32: 31e9, torch.bfloat16: 0.62e9}
    monkeypatch.setattr(bf16, "matrix_rate", lambda device, dtype, seconds: rates[dtype])
    assert bf16._slowdown.__wrapped__(CPU) == pytest.approx(50)
