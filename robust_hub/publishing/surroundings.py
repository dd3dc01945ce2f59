"""What this package finds around it: packages and their versions, device, memory, network, caches and disks.

Each is a finding that a person may paste into a public page: the user's folder is "~", and no login is in it.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch
from huggingface_hub import constants
from packaging.requirements import Requirement

from robust_hub.models.pins import user_pins
from robust_hub.models.remote import unreachable
from robust_hub.parsing import shown
from robust_hub.provenance import commit
from robust_hub.training.bf16 import has_fast_bf16

PACKAGE = "robust-hub"
PATIENCE = 2.0  # seconds in which the Hub has to answer
LEAST = 1e9  # bytes that a cache needs to be of use
_DEVELOPERS = ("test", "dev")  # extras that no user needs
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
_LOGINS = (
    (re.compile(r"hf_[A-Za-z0-9]{8,}"), "hf_..."),
    (re.compile(r"(?<=://)\S+@"), ""),  # to the last "@": a password may hold one
    (re.compile(r"(?<=\?)\S*(?:token|key)=\S+", re.IGNORECASE), "..."),
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        part: What it is of, such as "versions" or "checkpoints".
        name: What was looked at.
        value: What was found, in words.
        wrong: Whether something does not work because of it.
    """

    part: str
    name: str
    value: str
    wrong: bool = False


def surroundings() -> Iterator[Finding]:
    """Find everything but the checkpoints, each as it may be shown to anyone."""
    for find in (_versions, _device, _network, _caches):
        for finding in find():
            yield public(finding)


def public(finding: Finding) -> Finding:
    """Give a finding without the user's name, home and logins, on one line.

    Example:
        >>> public(Finding("network", "Hub", "https://me:hf_abcdefghijkl@hub.example answers")).value
        'https://hub.example answers'
    """
    return replace(finding, name=_public(finding.name), value=_public(finding.value))


def _public(text: str) -> str:
    for home in _homes():
        text = re.sub(rf"{re.escape(home)}(?=[/\\\s:,;)'\"]|$)", "~", text)
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name
        user = ""
    if user:
        text = re.sub(rf"(?<=[/\\]){re.escape(user)}(?=[/\\\s:,;)'\"]|$)", "USER", text)
    for pattern, word in _LOGINS:
        text = pattern.sub(word, text)
    return shown(" ".join(text.split()))


def _homes() -> set[str]:
    """Give the paths of the user's folder; none of a user without one."""
    try:
        return {str(Path.home()), str(Path.home().resolve())} - {"/", ""}
    except RuntimeError:
        return set()


def _versions() -> Iterator[Finding]:
    here = Path(__file__).parents[1]
    try:
        version = importlib.metadata.version(PACKAGE)
        needs = [Requirement(text) for text in importlib.metadata.requires(PACKAGE) or ()]
        extras = importlib.metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        version, needs, extras = "not installed", [], []
    revision = commit()
    yield Finding(
        "versions", PACKAGE, f"{version}, {f'commit {revision[:12]}' if revision else 'no commit'}, in {here}"
    )
    yield Finding("versions", "python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    for need in needs:
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            yield _package(need, None)
    seen: set[str] = set()
    for extra in (one for one in extras if one not in _DEVELOPERS):
        for need in needs:
            own = need.marker is not None and need.marker.evaluate({"extra": extra})
            if own and not need.marker.evaluate({"extra": ""}) and need.name not in seen:  # type: ignore[union-attr]
                seen.add(need.name)
                yield _package(need, extra)


def _package(need: Requirement, extra: str | None) -> Finding:
    """Say which version of a package is here, and what brings the one that is needed."""
    brings = f'pip install "{need.name}{need.specifier}"' if extra is None else f'pip install "{PACKAGE}[{extra}]"'
    try:
        version = importlib.metadata.version(need.name)
    except importlib.metadata.PackageNotFoundError:
        return Finding("versions", need.name, f"absent: {brings}", wrong=extra is None)
    if need.specifier.contains(version, prereleases=True):
        return Finding("versions", need.name, version)
    return Finding("versions", need.name, f"{version}, expected {need.specifier}: {brings}", wrong=True)


def _device() -> Iterator[Finding]:
    capability, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    yield Finding("device", "CPU", f"{capability}, {psutil.cpu_count()} cores, {threads} threads of torch")
    yield Finding("device", "CPU in bfloat16", _bf16(torch.device("cpu")))
    memory = psutil.virtual_memory()
    yield Finding("device", "memory", f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free")
    kind = torch.accelerator.current_accelerator(check_available=True)
    if kind is None:
        yield Finding("device", "accelerator", "none: everything runs on the CPU")
    elif kind.type != "cuda":
        yield Finding("device", "accelerator", f"{kind.type}, which training takes; certify runs on the CPU")
    else:
        for index in range(torch.cuda.device_count()):
            device, about = torch.device("cuda", index), torch.cuda.get_device_properties(index)
            words = f"{about.name}, {about.total_memory / 1e9:.0f} GB, bfloat16 {_bf16(device)}"
            yield Finding("device", f"cuda:{index}", words)


def _bf16(device: torch.device) -> str:
    return "at speed" if has_fast_bf16(device) else "many times slower than float32: leave it out"


def _network() -> Iterator[Finding]:
    for name in _OFFLINE:
        if value := os.environ.get(name):
            yield Finding("network", name, value)
    why = unreachable(constants.ENDPOINT, PATIENCE)
    asked = "not asked" if constants.HF_HUB_OFFLINE else f"asked once, for at most {PATIENCE:g} s"
    words = "answers" if why is None else f"out of reach ({why}): what is here works, nothing is fetched"
    yield Finding("network", "Hub", f"{constants.ENDPOINT} ({asked}): {words}")


def _caches() -> Iterator[Finding]:
    places = {
        "Hub's files": (Path(constants.HF_HUB_CACHE), "set HF_HOME to a folder on a disk with room"),
        "torch's data sets": (Path(torch.hub.get_dir()), "set TORCH_HOME to a folder on a disk with room"),
        "pins": (user_pins().parent, "set XDG_CONFIG_HOME to a folder of your own"),
    }
    for name, (path, advice) in places.items():
        yield _cache(name, path, advice)


def _cache(name: str, path: Path, advice: str) -> Finding:
    """Say whether a folder can be written, and how much there is room for."""
    there = next(place for place in (path, *path.parents) if os.path.exists(place))
    if not there.is_dir() or not os.access(there, os.W_OK):
        return Finding("caches", name, f"{path} cannot be written: {advice}", wrong=True)
    free = shutil.disk_usage(there).free
    made = "" if there == path else ", not made yet"
    if free < LEAST:
        return Finding("caches", name, f"{path}{made}, {free / 1e9:.2f} GB free: {advice}", wrong=True)
    return Finding("caches", name, f"{path}{made}, {free / 1e9:.0f} GB free")
