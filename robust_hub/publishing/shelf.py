"""Put a trained checkpoint on the shelf with the records that certify it, in one folder.

A folder of the shelf holds config.json and the weights, or their difference to a base, with a run's records in
`certification/<data>_sigma_<sigma>` and the log of what made it in `training`. Records of another network are refused.
The folder is made beside the one of the same name and takes its place whole, so that a kill or a full disk tears none.
What such a folder says is read by `robust_hub.publishing.evidence`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from robust_hub.evidence.records import Run, read_run
from robust_hub.files import rebuilt
from robust_hub.layout import CERTIFICATION, LOG, RECORDS, RUN, SPEED, TRAINING, UNDER_NOISE
from robust_hub.models.checkpoint import read_weights, save_checkpoint
from robust_hub.models.config import CheckpointConfig, read_config
from robust_hub.models.family import SUFFIX
from robust_hub.models.identity import weights_hash
from robust_hub.models.resnets import load_model
from robust_hub.models.shelves import SHELF, check_name
from robust_hub.models.stored import find_base
from robust_hub.parsing import shown
from robust_hub.provenance import summary
from robust_hub.publishing.evidence import check_identified, under_noise
from robust_hub.publishing.licences import check_licence, record_licence, warn_of_inherited
from robust_hub.training.state import rate_folder, write_in_main

_LONGEST = 50  # characters of a data set in the name of a folder: 200 bytes at most, of the 255 that disks allow


def shelve(
    source: str | Path,
    name: str,
    *,
    certified: Sequence[str | Path] = (),
    dtype: torch.dtype | None = None,
    base: str | None = None,
    license: str | None = None,
    shelf: str | Path = SHELF,
) -> Path:
    """Put a trained checkpoint on the shelf, with its records and its training log.

    Args:
        source: Checkpoint folder of `pretrain_mixed_noise` or `finetune_clean`.
        name: Its name for timm, such as "resnet18s_gn_mixednoise" or, fine-tuned, "resnet18s_gn_mixednoise.cifar10".
        certified: Folders of finished runs of `certify` with this checkpoint.
        dtype: Type of the file; by default that in which it was certified, float16 if it was not.
        base: Name of the checkpoint that it was fine-tuned from: the difference is stored in place of the weights,
            which takes a twentieth of the bytes after a clean epoch at a small rate.
        license: The Hub's id of the licence that you choose for the weights, such as "apache-2.0", "cc-by-nc-4.0" or
            "other"; by default the one that the source has, or none.
        shelf: Folder of all checkpoints; `model_cards` in the current folder.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: If the checkpoint or the base is damaged, or the base missing.
        ValueError: If the name or the licence is none, the name is another architecture's or promises mixed noise that
            the weights did not see, a run is unfinished or of other weights, two runs share data and sigma, the type
            would change the certified network, or the folder cannot be written or is a link to another place.

    Example:
        >>> import tempfile
        >>> from robust_hub.models.shelves import checkpoint_folder
        >>> trained = checkpoint_folder("resnet18s_ln_mixednoise")
        >>> with tempfile.TemporaryDirectory() as home:
        ...     folder = shelve(trained, "resnet18s_ln_mixednoise.mine", shelf=home)
        ...     (folder / "config.json").exists()
        True
    """
    source, folder = Path(source), _entry(Path(shelf), check_name(name))
    license = None if license is None else check_licence(license)
    if license is not None:
        warn_of_inherited(read_config(source), license)
    runs = [read_run(path) for path in certified]
    model, config = load_model(source), read_config(source)
    _check_name(name, config, source)
    dtype = _dtype_of(runs) if dtype is None else dtype
    _round(model, dtype)
    files = _certification_files(runs, model) | _training_files(source, model, config)  # now: they may lie in `folder`
    if base is not None:
        read_weights(find_base(base, folder))  # so that its faults come up before anything is written

    def write() -> None:
        with rebuilt(folder, without=(CERTIFICATION, TRAINING)) as fresh:
            save_checkpoint(model, fresh, provenance=config.provenance, dtype=dtype, base=base)
            if chosen := license or config.license:
                record_licence(fresh, chosen)
            _add_files(fresh, files)

    write_in_main(folder, write)
    return folder


def _entry(shelf: Path, name: str) -> Path:
    """Give a checkpoint's folder on a shelf; one that is a link would be written elsewhere."""
    folder = shelf / name
    if folder.is_symlink():
        raise ValueError(
            f"expected a folder in {shelf}, got {folder}, which leads to {folder.resolve()}: remove the link"
        )
    return folder


def check_run(run: Run, model: nn.Module) -> None:
    """Refuse a run that is not finished or did not certify this network, in the type that it was certified in.

    Args:
        run: The run.
        model: The network, in float32 holding the stored values.

    Raises:
        ValueError: If it is unfinished or holds records of other weights.
    """
    if not run.finished:
        raise ValueError(f"expected finished runs, {shown(run.path)} is not: give its certify command once more")
    check_identified(run)
    if run.identity["weights"] != _weights_hash(model, run.identity["dtype"]):
        raise ValueError(
            f"{shown(run.path)} holds records of other weights (its type is {shown(run.identity['dtype'], 40)}): name "
            "the runs that certified this checkpoint, and leave dtype out"
        )


def _dtype_of(runs: Sequence[Run]) -> torch.dtype:
    """Give the type that all runs certified, float32 of several; float16 without runs."""
    types = {str(run.identity.get("dtype")) for run in runs}
    if not types:
        return torch.float16
    kind = getattr(torch, types.pop(), None) if len(types) == 1 else torch.float32
    return kind if isinstance(kind, torch.dtype) else torch.float32  # a type that is none has no weights, see check_run


def _round(model: nn.Module, dtype: torch.dtype) -> None:
    """Give a network the values that its weights have once stored in a type."""
    state = model.state_dict()
    model.load_state_dict({k: value.to(dtype) if value.is_floating_point() else value for k, value in state.items()})


def _certification_files(runs: Sequence[Run], model: nn.Module) -> dict[Path, bytes]:
    """Read the files of the runs that certify a network, by their path in its folder; others are refused."""
    files: dict[Path, bytes] = {}
    for run in runs:
        check_run(run, model)
        folder = Path(CERTIFICATION, f"{_folder_word(run.identity['data'])}_sigma_{run.sigma:g}")
        if folder / RUN in files:
            raise ValueError(
                f"expected one run for data and sigma, got {shown(run.path)} beside another: leave one out"
            )
        files |= {folder / file: (run.path / file).read_bytes() for file in (RECORDS, RUN)}
    return files


def _folder_word(data: object) -> str:
    """Give the name of a data set as a part of a folder's name on any system: what cannot stand in one is "_"."""
    name = Path(str(data).replace("\\", "/")).name
    return "".join(c if c.isprintable() and c not in '<>:"/\\|?*' else "_" for c in name)[:_LONGEST]


def _training_files(source: Path, model: nn.Module, config: CheckpointConfig) -> dict[Path, bytes]:
    """Read the log of a training and the accuracies under noise of this very network, by their path in its folder.

    Of several learning rates that were tried the log is the chosen one's.
    """
    home = source / TRAINING
    rate = None if config.provenance is None else config.provenance.learning_rate
    logs = home if rate is None or (home / LOG).is_file() else rate_folder(home, rate)
    files = {TRAINING / Path(name): logs / name for name in (LOG, SPEED)}
    measured = under_noise(source)
    if measured is not None and measured.weights == _weights_hash(model, measured.dtype):
        files[Path(TRAINING, UNDER_NOISE)] = home / UNDER_NOISE
    return {path: file.read_bytes() for path, file in files.items() if file.is_file()}


def _add_files(folder: Path, files: Mapping[Path, bytes]) -> None:
    """Put files beside the weights."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def _weights_hash(model: nn.Module, dtype: str) -> str:
    """Give the hash of a network's weights in a type; an empty one if there is no such type."""
    kind = getattr(torch, dtype, None)
    return weights_hash(copy.deepcopy(model).to(kind)) if isinstance(kind, torch.dtype) else ""


def _check_name(name: str, config: CheckpointConfig, source: Path) -> None:
    """Refuse a name of another architecture, or one that promises noise that the weights did not see."""
    asked, own = (text.split(".")[0].removesuffix(SUFFIX) for text in (name, config.architecture))
    if asked != own:
        raise ValueError(f"{source} is a {own}, expected a name that starts with it, got {name!r}")
    lineage = () if config.provenance is None else config.provenance.lineage()
    start = next((one for one in lineage if one.job == "pretrain"), None)
    if start and name.split(".")[0].endswith(SUFFIX) and len(start.sigmas or ()) < 2:
        raise ValueError(
            f"expected weights that saw several sigmas for a name with {SUFFIX}, got weights {summary(start)}: "
            f"call them {own}.<tag>"
        )
