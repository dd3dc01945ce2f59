"""Decoding in processes: the bytes and the errors of threads, and an end in one sentence whatever happens."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_sources import Items, hide, image_folder, parquet, picture, pixels

from robust_hub.images import encoded
from robust_hub.images.data import load_data
from robust_hub.images.decoding import Decoders, processes

Split = Callable[[bool], None]


@pytest.fixture
def in_processes(monkeypatch: pytest.MonkeyPatch) -> Split:
    """Choose between processes and threads, whatever the number of images and CPUs."""
    monkeypatch.setattr(encoded, "processes", lambda: 2)
    monkeypatch.setattr(encoded, "BLOCK", 3)

    def choose(yes: bool) -> None:
        monkeypatch.setattr(encoded, "IN_PROCESSES", 0 if yes else 10**9)

    return choose


def zoo(root: Path) -> Path:
    """Grey, transparent, JPEG, WebP and palette images of one size beside plain ones."""
    image_folder(root, count=5)
    for name, mode in (("l.jpg", "L"), ("p.png", "P"), ("a.png", "RGBA"), ("w.webp", "RGB"), ("j.jpg", "RGB")):
        picture(50).convert(mode).save(root / "dog" / name)
    return root


@pytest.mark.parametrize("size", [None, 5])
@pytest.mark.parametrize("kind", ["folder", "datasets", "pyarrow"])
def test_processes_and_threads_give_equal_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_processes: Split, kind: str, size: int | None
) -> None:
    root = zoo(tmp_path / "zoo") if kind == "folder" else parquet(tmp_path / "zoo", label=[0, 1] * 5)
    if kind == "pyarrow":
        hide(monkeypatch, "datasets")
    started = count_starts(monkeypatch)
    batches = []
    for yes in (False, True):
        in_processes(yes)
        batches.append(load_data(root, size=size, in_memory=True).batch(range(10))[0])
        assert len(started) == yes
    assert torch.equal(*batches)
    assert len(batches[0].flatten(1).unique(dim=0)) > 5
    lazy = load_data(root, size=size, in_memory=False)
    assert torch.equal(lazy.batch([7, 2, 2, 9])[0], batches[0][[7, 2, 2, 9]])


def count_starts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect the numbers of processes that are started."""
    started: list[int] = []
    enter = Decoders.__enter__

    def noted(self: Decoders) -> Decoders:
        started.append(self._count)
        return enter(self)

    monkeypatch.setattr(Decoders, "__enter__", noted)
    return started


def test_few_images_one_cpu_and_a_users_dataset_start_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_processes: Split
) -> None:
    root, started = image_folder(tmp_path / "pets"), count_starts(monkeypatch)
    load_data(root)
    in_processes(True)
    load_data(Items([(picture(i), i % 2) for i in range(8)]))
    monkeypatch.setattr(encoded, "processes", lambda: 1)
    load_data(root)
    assert started == []


def test_processes_are_shared_by_those_of_a_launched_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert processes() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert processes() == 2


@pytest.mark.parametrize("yes", [True, False])
def test_an_image_that_does_not_serve_is_named(tmp_path: Path, in_processes: Split, yes: bool) -> None:
    in_processes(yes)
    cases: dict[str, tuple[Callable[[Path], object], str]] = {
        "damaged": (lambda path: path.write_bytes(b"no image"), r"got a damaged one at .*damaged/dog/2\.png"),
        "deep": (lambda path: Image.new("I;16", (8, 8)).save(path), r"got mode I;16 at .*deep/dog/2\.png"),
        "large": (lambda path: picture(7, width=12).save(path), r"8x8 as the first, got 8x12 at .*dog/2\.png: pass"),
    }
    for name, (spoil, words) in cases.items():
        root = image_folder(tmp_path / name)
        spoil(root / "dog" / "2.png")
        with pytest.raises(ValueError, match=words):
            load_data(root)


def png(width: int = 8) -> bytes:
    file = io.BytesIO()
    picture(0, width=width).save(file, "PNG")
    return file.getvalue()


def test_what_cannot_be_decoded_is_none_and_the_rest_is_there() -> None:
    with Decoders(1) as decoders:
        for _ in range(2):
            images = decoders.decode([png(), b"no image", 7], None)
            assert isinstance(images, list) and images[1:] == [None, None]
            assert images[0] is not None and np.array_equal(images[0], pixels(0).numpy())
        assert decoders.decode([b"no image"], None) == [None]
        both = decoders.decode([png(), png(6)], None)
        assert isinstance(both, list) and [one.shape for one in both if one is not None] == [(3, 8, 8), (3, 8, 6)]
        block = decoders.decode([png(), png()], None)
        assert isinstance(block, np.ndarray) and np.array_equal(block, np.stack([pixels(0).numpy()] * 2))


def test_a_process_that_dies_is_one_sentence() -> None:
    with Decoders(2) as decoders:
        for one in decoders._all:
            os.kill(one.pid, signal.SIGKILL)
        with pytest.raises(ChildProcessError, match=r"2 processes .*, got one that ended \(exit code -9\)"):
            decoders.each(lambda _: decoders.decode([png()], None), range(4))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What Python does with SIGINT, which a shell makes its background jobs ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_the_processes() -> None:
    with pytest.raises(KeyboardInterrupt), Decoders(2) as decoders:
        assert os.getpgrp() not in {os.getpgid(one.pid) for one in decoders._all}  # the terminal signals them all

        def work(part: int) -> None:
            decoders.decode([png()], None)
            if part == 3:
                os.kill(os.getpid(), signal.SIGINT)

        decoders.each(work, range(1000))
    assert all(one.poll() is not None for one in decoders._all)


def test_processes_end_without_a_word_with_the_one_that_asks() -> None:
    code = "from robust_hub.images.decoding import Decoders\nwith Decoders(2): print(flush=True); input()"
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as asking:  # type: ignore[call-overload]
        assert asking.stdout is not None
        asking.stdout.readline()
        asking.kill()
        assert asking.communicate(timeout=60)[1] == b""  # which they hold as well: they have ended


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    root, script = image_folder(tmp_path / "pets"), tmp_path / "script.py"
    lines = (
        "import robust_hub",
        "from robust_hub.images import encoded",
        "encoded.IN_PROCESSES, encoded.processes = 0, lambda: 2",
        f"print(robust_hub.load_data({str(root)!r}).batch([0])[0].shape)",
    )
    script.write_text("\n".join(lines))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "torch.Size([1, 3, 8, 8])\n", done.stderr
