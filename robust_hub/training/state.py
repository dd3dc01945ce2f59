"""The folder of a training: who holds it, what is trained there, how far it is.

Files of the folder::

    settings.json     what the training is; a resume compares it
    log.jsonl         one row per finished epoch
    state/step-N/     the newest state: weights, optimizer, progress.json
    result.json       in each lr-* folder of a training that chooses among learning rates, written at its end

Of several processes only the main one writes; all of them read, so the folder lies where each can see it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from torch import nn

from robust_hub.claim import ClaimedFolder
from robust_hub.files import replace_text
from robust_hub.layout import LOG, TRAINING
from robust_hub.models.again import bare

SETTINGS, STATE, RESULT = "settings.json", "state", "result.json"
PROGRESS = "progress.json"


@dataclass
class Progress:
    """How far a training is; everything of a state that is neither weights nor optimizer."""

    step: int = 0
    loss: float = 0.0  # sums over the images of the running epoch
    correct: float = 0.0
    seen: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


def check_destination(model: nn.Module, out: str | os.PathLike[str] | None) -> None:
    """Refuse a folder that a model's checkpoint cannot go to.

    Args:
        model: The model to be trained.
        out: The checkpoint's folder: new, empty, or of the same training. None: nothing is written.

    Raises:
        ValueError: If out holds something else, the model cannot be written as a checkpoint, or has no weights.
    """
    network = bare(model)
    if out is None:
        return
    if not (getattr(network, "pretrained_cfg", None) or {}).get("architecture"):
        raise ValueError(
            f"expected a model of timm.create_model, got {type(model).__name__}, which timm cannot make again by name: "
            "leave out `out` and save its state_dict yourself"
        )
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"expected a folder, got the file {out}: choose another one")
    if out.exists() and any(out.iterdir()) and not (out / TRAINING).is_dir():
        raise ValueError(f"expected a new or empty folder or a training, got {out}: choose another one")


def write_in_main(folder: Path, job: Callable[[], object]) -> None:
    """Do a job that writes, in the main process; where it fails, every process raises, so that none waits for another.

    Args:
        folder: What the job writes to, for the error.
        job: Writes; its own ValueErrors are raised as they are.

    Raises:
        ValueError: If the job raised one, or the folder cannot be written or is full.
    """
    problem: list[str | None] = [None]
    cause: Exception | None = None
    if PartialState().is_main_process:
        try:
            job()
        except ValueError as error:
            problem, cause = [str(error)], error
        except (OSError, RuntimeError, SafetensorError) as error:  # a full disk: torch and safetensors have their own
            advice = "make room or choose another one; what was saved before is kept"
            problem, cause = [f"expected a folder that can be written, got {folder} ({error}): {advice}"], error
    broadcast_object_list(problem)
    if problem[0] is not None:
        raise ValueError(problem[0]) from cause


@contextmanager
def claimed(folder: Path | None, settings: Mapping[str, Any]) -> Iterator[None]:
    """Hold the folder for this training.

    Args:
        folder: New, empty, or the folder of a training with the same settings. None: nothing is held.
        settings: What the training is, JSON values.

    Raises:
        ValueError: If the folder is none of these, another process works in it, or it cannot be written.
    """
    if folder is None:
        yield
        return
    held = ClaimedFolder(folder, SETTINGS, "training")
    here = json.loads(json.dumps(settings))

    def claim() -> None:
        if held.claim():
            held.check_same(_read_settings(folder / SETTINGS), here)
        else:
            replace_text(folder / SETTINGS, json.dumps(here, indent=1))

    try:
        write_in_main(folder, claim)
        yield
    finally:
        held.release()


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"expected settings of a training in {path}, got a damaged file: remove {path.parent}"
        ) from error


class Keeper:
    """Save and load the state of a training; the newest state only, never a half-written one."""

    def __init__(self, accelerator: Accelerator, folder: Path | None) -> None:
        self.accelerator = accelerator
        self.folder = folder
        self.saved = time.monotonic()

    def newest(self) -> Path | None:
        """Give the folder of the newest whole state."""
        if self.folder is None:
            return None
        whole = [p for p in (self.folder / STATE).glob("step-*") if (p / PROGRESS).exists()]
        return max(whole, key=lambda p: int(p.name[5:]), default=None)

    def resume(self) -> Progress:
        """Load the newest state, if there is one, and bring the log to it.

        Raises:
            ValueError: If the state is damaged, or the folder cannot be written.
        """
        newest, done = self.newest(), Progress()
        if newest is not None:
            try:
                self.accelerator.load_state(str(newest))
                done = Progress(**json.loads((newest / PROGRESS).read_text()))
            except Exception as error:  # whatever json, pickle, safetensors and torch make of a damaged file
                raise ValueError(
                    f"expected a whole state in {newest}, got a damaged one ({type(error).__name__}: {error}): "
                    f"start again in a new folder"
                ) from error
        if self.folder is not None:
            write_in_main(self.folder, lambda: self._log(done))
        return done

    def due(self, save_every: float) -> bool:
        """Tell whether the last save is `save_every` seconds ago, the same to all processes."""
        late = time.monotonic() - self.saved >= save_every
        if self.accelerator.num_processes == 1:
            return late
        return bool(self.accelerator.reduce(torch.tensor(float(late), device=self.accelerator.device), "sum") > 0)

    def save(self, done: Progress) -> None:
        """Write the state beside the old one, put it in place by a rename, and remove the old one.

        Raises:
            ValueError: If it cannot be written. The old state is kept.
        """
        if self.folder is not None:
            write_in_main(self.folder, lambda: self._save(done))
        self.saved = time.monotonic()

    def _save(self, done: Progress) -> None:
        assert self.folder is not None
        states = self.folder / STATE
        fresh, target = states / "saving", states / f"step-{done.step}"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        try:
            self.accelerator.save_state(str(fresh))
            (fresh / PROGRESS).write_text(json.dumps(vars(done)))
            shutil.rmtree(target, ignore_errors=True)
            os.replace(fresh, target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        for old in states.glob("step-*"):
            if old != target:
                shutil.rmtree(old, ignore_errors=True)
        self._log(done)

    def _log(self, done: Progress) -> None:
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_text(self.folder / LOG, "".join(json.dumps(row) + "\n" for row in done.history))


def rate_folder(folder: Path, rate: float) -> Path:
    """Give the folder in a training's, of which several learning rates were tried, that is of one of them."""
    return folder / f"lr-{rate:g}"


def read_result(folder: Path | None) -> dict[str, Any]:
    """Read what `write_result` wrote; empty if nothing was."""
    if folder is None or not (folder / RESULT).exists():
        return {}
    result: dict[str, Any] = json.loads((folder / RESULT).read_text())
    return result


def write_result(folder: Path | None, result: Mapping[str, Any]) -> None:
    """Write the end of a training with one of several learning rates.

    Raises:
        ValueError: If the folder cannot be written.
    """
    if folder is not None:
        write_in_main(folder, lambda: replace_text(folder / RESULT, json.dumps(result)))
