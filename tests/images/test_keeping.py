"""Images that are decoded for once and all, and no others: which, by how many workers, with a bar, or not at all."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from robust_hub.certification.evaluate import certify
from robust_hub.cli.main import main
from robust_hub.evidence.records import read_run
from robust_hub.images import data as data_module
from robust_hub.images import encoded
from robust_hub.images import source as source_module
from robust_hub.images.data import load_data

PLAIN: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1), "progress": False, "n": 50, "seed": 3}
COUNT = 240


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 240 images of 4x4."""
    folder = tmp_path_factory.mktemp("many")
    for i in range(COUNT):
        place = folder / "test" / ("cat" if i < COUNT // 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), i, dtype=np.uint8)).save(place / f"{i:03}.png")
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image is decoded."""
    counter: Counter[str] = Counter()
    original = source_module.open_image

    def counting(cell: bytes | str) -> Image.Image:
        counter[str(cell)] += 1
        return original(cell)

    monkeypatch.setattr(source_module, "open_image", counting)
    return counter


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 2))


def test_a_certification_decodes_what_it_certifies_and_once(
    root: Path, tmp_path: Path, opened: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = certify(linear(), root, 0.25, out=tmp_path / "run", every=20, limit=10, **PLAIN)
    assert len(run.records) == 10 and len(opened) == 10 and set(opened.values()) == {1}
    opened.clear()
    lazy = load_data(root, "test", in_memory=False)
    again = certify(linear(), lazy, 0.25, out=tmp_path / "again", every=20, limit=10, **PLAIN)
    assert len(opened) == 10 and set(opened.values()) == {1}
    whole = load_data(root, "test", in_memory=True)
    third = certify(linear(), whole, 0.25, out=tmp_path / "third", every=20, limit=10, **PLAIN)
    assert again.identity == third.identity == run.identity
    opened.clear()
    monkeypatch.setattr(data_module, "free", lambda: 0)  # then once for their hash, once for their votes
    fourth = certify(linear(), root, 0.25, out=tmp_path / "fourth", every=20, limit=10, **PLAIN)
    assert len(opened) == 10 and max(opened.values()) <= 2 and fourth.identity == run.identity
    rows = [[(r.idx, r.label, r.base, r.counts) for r in one.records] for one in (run, again, third, fourth)]
    assert all(row == rows[0] for row in rows)


def test_several_sigmas_on_the_command_line_decode_once(root: Path, tmp_path: Path, opened: Counter[str]) -> None:
    what = ("--model", "resnet18s_ln_mixednoise", "--data", root, "--size", 32, "--every", 60, "--num-workers", 1)
    how = ("--sigma", "0.25,0.5", "--n", 50, "--quiet", "--classes", "by-position", "--out", tmp_path)
    result = CliRunner().invoke(main, ["certify", *map(str, (*what, *how))])
    assert result.exit_code == 0, result.output
    assert len(opened) == 4 and set(opened.values()) == {1}


def test_a_run_begun_with_the_hash_of_other_images_goes_on(root: Path, tmp_path: Path) -> None:
    whole = certify(linear(), root, 0.25, out=tmp_path / "run", every=60, **PLAIN)
    path = tmp_path / "run" / "run.json"
    said = json.loads(path.read_text())
    del said["identity"]["labels_hash"]
    for digest, fits in ((load_data(root, "test").data_hash, True), ("00", False)):
        said["identity"]["data_fingerprint"] = digest
        path.write_text(json.dumps({**said, "finished": None}))
        if fits:
            assert certify(linear(), root, 0.25, out=tmp_path / "run", every=60, **PLAIN).records == whole.records
            assert read_run(tmp_path / "run").identity["data_fingerprint"] == digest
        else:
            with pytest.raises(ValueError, match="data_fingerprint is"):
                certify(linear(), root, 0.25, out=tmp_path / "run", every=60, **PLAIN)


def test_what_is_kept_is_what_would_be_decoded(root: Path, opened: Counter[str]) -> None:
    lazy, whole = load_data(root, "test", in_memory=False), load_data(root, "test", in_memory=True)
    opened.clear()
    kept = lazy.keeping([7, 3, 200])
    assert sum(opened.values()) == 3 and kept.keeping([200, 7])._pixels is kept._pixels
    assert torch.equal(kept.batch([200, 7, 7])[0], whole.batch([200, 7, 7])[0]) and sum(opened.values()) == 3
    assert torch.equal(kept.batch([7, 8])[0], whole.batch([7, 8])[0])  # and one that is not
    assert torch.equal(kept.subset([3, 5]).batch([0, 1])[0], whole.batch([3, 5])[0])
    assert kept.data_hash == whole.data_hash and kept.labels_hash == whole.labels_hash != whole.data_hash
    assert whole.keeping([1]) is whole
    with pytest.raises(IndexError, match="expected indices below 240"):
        lazy.keeping([COUNT])


def test_decoding_shows_a_bar(root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    load_data(root, "test")
    assert capfd.readouterr().err == ""  # it took no second
    monkeypatch.setattr(encoded, "WORTH_A_BAR", 0.0)
    load_data(root, "test", progress=False)
    assert capfd.readouterr().err == ""
    for processes in (10**9, 0):
        monkeypatch.setattr(encoded, "IN_PROCESSES", processes)
        load_data(root, "test", num_workers=2)
        assert "decoding: 100%" in (said := capfd.readouterr().err) and f"{COUNT}/{COUNT}" in said


@pytest.mark.parametrize(("workers", "threads"), [(0, []), (1, []), (3, [3])])
def test_workers_are_as_many_as_are_asked_for(
    root: Path, monkeypatch: pytest.MonkeyPatch, workers: int, threads: list[int]
) -> None:
    started: list[int] = []

    def noted(count: int) -> ThreadPoolExecutor:
        started.append(count)
        return ThreadPoolExecutor(count)

    monkeypatch.setattr(encoded, "ThreadPoolExecutor", noted)
    lazy = load_data(root, "test", in_memory=False, num_workers=workers)
    parts: list[int] = []
    lazy._pixels._in_threads(list(range(48)), np.empty((48, 3, 4, 4), np.uint8), max(1, workers), parts.append)
    lazy.batch(range(48))
    assert started == threads * 2
    assert sum(parts) == 48 and max(parts) <= max(16, 32 // max(1, workers))  # no worker is idle while others decode


def test_a_number_of_workers_that_is_none(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected num_workers of at least 0, or None for one a CPU, got -1"):
        load_data(root, "test", num_workers=-1)


def test_images_that_memory_does_not_hold(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = r"expected memory for 240 images of 4x4, 0\.0 GB, got .* GB that are free: leave in_memory out.*smaller size"

    def none(*_: Any, **__: Any) -> Any:
        raise MemoryError("Unable to allocate 9 TiB")

    with monkeypatch.context() as patch:
        patch.setattr(encoded.np, "empty", none)
        with pytest.raises(MemoryError, match=said):
            load_data(root, "test", in_memory=True)
    monkeypatch.setattr(data_module, "free", lambda: 100)
    monkeypatch.setattr(data_module.psutil, "swap_memory", lambda: SimpleNamespace(free=0))
    with pytest.raises(MemoryError, match=said):
        load_data(root, "test", in_memory=True)
    assert not load_data(root, "test").in_memory
