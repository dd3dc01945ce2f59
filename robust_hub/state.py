"""The folder of a training run: who holds it, what is run there, how far it is.

Files of a run's folder::

    settings.json     what the run is; a resume compares it
    log.jsonl         one row per finished epoch
    state/step-N/     the newest state: weights, optimizer, progress.json
    result.json       written at the end of a run that chooses among learning rates, in each of its lr-* folders

Of several processes only the main one writes; all of them read, so the folder lies where each can see it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from torch import nn

from robust_hub.files import replace_text
from robust_hub.layout import LOG, TRAINING

SETTINGS, STATE, RESULT = "settings.json", "state", "result.json"
PROGRESS, LOCK = "progress.json", ".lock"


@dataclass
class Progress:
    """How far a run is; everything of a state that is neither weights nor optimizer."""

    step: int = 0
    loss: float = 0.0  # sums over the images of the running epoch
    correct: float = 0.0
    seen: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


def check_out(model: nn.Module, out: str | os.PathLike[str] | None) -> None:
    """Refuse a folder that a model's checkpoint cannot go to.

    Args:
        model: The model to be trained.
        out: The checkpoint's folder: new, empty, or of the same training. None: nothing is written.

    Raises:
        ValueError: If out holds something else, or the model cannot be written as a checkpoint.
    """
    if out is None:
        return
    if not (getattr(model, "pretrained_cfg", None) or {}).get("architecture"):
        raise ValueError(
            f"expected a model of timm.create_model, got {type(model).__name__}, which timm cannot make again by name: "
            "leave out `out` and save its state_dict yourself"
        )
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"expected a folder, got the file {out}: choose another one")
    if out.exists() and any(out.iterdir()) and not (out / TRAINING).is_dir():
        raise ValueError(f"expected a new or empty folder or a training run, got {out}: choose another one")


def write_in_main(folder: Path, job: Callable[[], object]) -> None:
    """Do a job that writes, in the main process; where it fails, every process raises, so that none waits for another.

    Args:
        folder: What the job writes to, for the error.
        job: Writes; its own ValueErrors are told as they are.

    Raises:
        ValueError: If the job raised one, or the folder cannot be written or is full.
    """
    said: list[str | None] = [None]
    cause: Exception | None = None
    if PartialState().is_main_process:
        try:
            job()
        except ValueError as error:
            said, cause = [str(error)], error
        except (OSError, RuntimeError, SafetensorError) as error:  # a full disk: torch and safetensors have their own
            advice = "make room or choose another one; what was saved before is kept"
            said, cause = [f"expected a folder that can be written, got {folder} ({error}): {advice}"], error
    broadcast_object_list(said)
    if said[0] is not None:
        raise ValueError(said[0]) from cause


@contextmanager
def claimed(folder: Path | None, settings: Mapping[str, Any]) -> Iterator[None]:
    """Hold the folder for this run.

    Args:
        folder: New, empty, or the folder of a run with the same settings. None: nothing is held.
        settings: What the run is, JSON values.

    Raises:
        ValueError: If the folder is none of these, another process works in it, or it cannot be written.
    """
    if folder is None:
        yield
        return
    lock = FileLock(folder / LOCK, timeout=0)
    wanted = json.loads(json.dumps(settings))

    def claim() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(
                f"expected a folder of no other run, got {folder}, where another one is at work: "
                "wait for it or choose another folder"
            ) from None
        if (folder / SETTINGS).exists():
            _compare(folder, wanted)
        elif any(p.name not in (LOCK, SETTINGS + ".new") for p in folder.iterdir()):
            raise ValueError(f"expected a new or empty folder or a training run, got {folder}: choose another one")
        else:
            replace_text(folder / SETTINGS, json.dumps(wanted, indent=1))

    try:
        write_in_main(folder, claim)
        yield
    finally:
        lock.release()


class Keeper:
    """Save and load the state of a run; the newest state only, never a half-written one."""

    def __init__(self, accelerator: Accelerator, folder: Path | None) -> None:
        self.accelerator = accelerator
        self.folder = folder
        self.saved = time.monotonic()

    def newest(self) -> Path | None:
        """Give the folder of the newest whole state."""
        if self.folder is None:
            return None
        found = [p for p in (self.folder / STATE).glob("step-*") if (p / PROGRESS).exists()]
        return max(found, key=lambda p: int(p.name[5:]), default=None)

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
            (fresh / PROGRESS).write_text(json.dumps(asdict(done)))
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


def read_result(folder: Path | None) -> dict[str, Any]:
    """Read what `write_result` wrote; empty if nothing was."""
    if folder is None or not (folder / RESULT).exists():
        return {}
    result: dict[str, Any] = json.loads((folder / RESULT).read_text())
    return result


def write_result(folder: Path | None, result: Mapping[str, Any]) -> None:
    """Write the end of a run with one of several learning rates.

    Raises:
        ValueError: If the folder cannot be written.
    """
    if folder is not None:
        write_in_main(folder, lambda: replace_text(folder / RESULT, json.dumps(result)))


def _compare(folder: Path, wanted: dict[str, Any]) -> None:
    """Refuse settings that are not those of the run in the folder."""
    try:
        found = dict(json.loads((folder / SETTINGS).read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"expected settings of a run in {folder / SETTINGS}, got a damaged file: remove {folder}"
        ) from error
    other = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
    if other:
        told = "; ".join(f"{k} was {_short(found.get(k))}, is now {_short(wanted.get(k))}" for k in other)
        raise ValueError(
            f"expected the settings of the run in {folder}, got others ({told}): "
            "use the same settings to resume it, or a new folder"
        )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
