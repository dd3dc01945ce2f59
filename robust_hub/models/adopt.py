"""Make a checkpoint of a folder that another library wrote: what it computes is checked, then hashed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from robust_hub.errors import CheckpointError
from robust_hub.files import inside
from robust_hub.models.checkpoint import check_keys, read_weights, save_checkpoint
from robust_hub.models.classes import note_class_names
from robust_hub.models.config import CheckpointConfig, as_timm, read_config
from robust_hub.models.foreign import PICKLE, adopting, is_cached, unpromised_files, writer
from robust_hub.models.modes import eval_mode
from robust_hub.models.resnets import load_model
from robust_hub.models.sketch import sketch
from robust_hub.models.tensors import unpack
from robust_hub.parsing import shown
from robust_hub.provenance import Provenance


def adopt(folder: str | Path) -> Path:
    """Make a checkpoint of a folder that timm's `save_for_hf` or transformers' `save_pretrained` wrote, in its place.

    The network is made as config.json describes it, the weights have to be its own to the last tensor, they and its
    logits finite. Then config.json and the weights are written as `save_checkpoint` writes them: hashes, norm, stem,
    what the network computes of two fixed images, and which library saved the weights. What trained them is not known
    to anyone here: an earlier provenance is kept as the one that they started from.

    Args:
        folder: The folder. A pickle, pytorch_model.bin, is read where there is nothing else, by torch's reader that
            makes tensors alone.

    Returns:
        The folder; one whose hashes are right is left as it is.

    Raises:
        CheckpointError: If there are no weights, they are another network's, or not finite.
        ValueError: If the folder lies in the Hub's cache.

    Example:
        >>> import tempfile
        >>> import timm
        >>> import robust_hub
        >>> model = timm.create_model("resnet18s_gn", num_classes=10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     timm.models.save_for_hf(model, folder, safe_serialization=True)
        ...     robust_hub.load_model(adopt(folder)).norm_kind
        'gn'
    """
    folder = Path(folder)
    if is_cached(folder):
        raise ValueError(f"expected a folder of your own, got {folder} in the Hub's cache: {adopting(folder)}")
    config = read_config(folder)
    if config.sha256 and _is_whole(folder):
        return folder
    state, saved_by = _weights(folder)
    model = _network(folder, config, state)
    base = None if config.provenance is None else config.as_base()
    kinds = {value.dtype for value in state.values() if value.is_floating_point()}
    save_checkpoint(
        model,
        folder,
        provenance=Provenance(base=base, notes={"saved_by": saved_by}),
        dtype=kinds.pop() if len(kinds) == 1 else torch.float32,
    )
    load_model(folder)
    return folder


def _is_whole(folder: Path) -> bool:
    try:
        return bool(read_weights(folder))
    except CheckpointError:
        return False


def _weights(folder: Path) -> tuple[dict[str, Tensor], str]:
    """Read the weights that lie in a folder, and tell which library saved them."""
    if not any(folder.glob("model*.safetensors")) and (folder / PICKLE).is_file():
        return _unpickled(folder), "timm"
    state: dict[str, Tensor] = {}
    saved_by = None
    for name, content in unpromised_files(folder):
        saved_by = writer(folder, content)
        try:
            state |= unpack(content)[0]
        except (ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{folder / name} is no safetensors file ({shown(error)}): save it again") from None
    return state, saved_by or "another library"


def _unpickled(folder: Path) -> dict[str, Tensor]:
    try:
        state: Any = torch.load(inside(folder, PICKLE), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file that anyone may have written makes of its reader
        words = shown(" ".join(str(error).split()), 200)
        raise CheckpointError(f"{folder / PICKLE} cannot be read as tensors ({words}): save it again") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"expected tensors by name in {folder / PICKLE}, got something else: save a state_dict")
    return {str(name): value for name, value in state.items()}


def _network(folder: Path, config: CheckpointConfig, state: dict[str, Tensor]) -> nn.Module:
    """Make the network that a config.json describes, with these weights, and look whether it computes numbers."""
    check_keys(state, sketch(config, len(state), folder))
    if bad := sorted(k for k, v in state.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())):
        raise CheckpointError(f"{bad[0]} of the weights in {folder} is not finite: train or save them again")
    arguments: dict[str, Any] = {**config.model_args, "num_classes": config.num_classes, "pretrained": False}
    overlay = {**as_timm(config.pretrained_cfg), "num_classes": config.num_classes}
    model: nn.Module = timm.create_model(config.architecture, **arguments, pretrained_cfg_overlay=overlay).eval()
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    size = config.input_size or (3, 32, 32)
    x = torch.linspace(-2, 2, 2 * size[0] * size[1] * size[2]).view(2, *size)
    with eval_mode(model), torch.inference_mode():
        if not bool(torch.isfinite(model(x)).all()):
            raise CheckpointError(f"the network in {folder} computes logits that are not finite: train it again")
    note_class_names(model, config.label_names)
    return model
