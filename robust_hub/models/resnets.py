"""Networks by name, with their weights: what timm makes of a name, and of a folder.

`resnet{26,50,152}_{bn,gn,in,ln}` and the small `resnet18s_{bn,gn,in,ln}` are architectures; each has a
`..._mixednoise` twin, the name of its pretrained weights. robust_hub.models.entrypoints registers them with timm.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import timm
from timm.models import build_model_with_cfg, get_pretrained_cfg
from torch import nn

from robust_hub.errors import CheckpointError
from robust_hub.layout import CONFIG
from robust_hub.memory import ran_out
from robust_hub.models.addresses import folder_at
from robust_hub.models.asked import asked_for, locate, overlay_of, said_of
from robust_hub.models.checkpoint import check_keys, read_weights
from robust_hub.models.classes import note_class_names
from robust_hub.models.config import CheckpointConfig, read_config
from robust_hub.models.family import NAMES, SUFFIX
from robust_hub.models.filling import note_loaded, weights_for, without_state
from robust_hub.models.foreign import described, warn_unchecked
from robust_hub.models.loaded import check_computation, check_loaded
from robust_hub.models.network import DEPTHS, STEMS, RobustResNet, check_name
from robust_hub.models.norms import NORMS
from robust_hub.models.plain import plain_timm
from robust_hub.models.remote import reach_file
from robust_hub.models.shelves import checkpoint_folder
from robust_hub.models.sketch import sketch
from robust_hub.models.stored import check_kind
from robust_hub.names import did_you_mean
from robust_hub.parsing import shown

_LARGE = {"input_size": (3, 224, 224), "pool_size": (7, 7)}  # what timm's own stem is for, where nobody says another


def create(variant: str, depth: str, norm: str, pretrained: bool, kwargs: dict[str, Any]) -> nn.Module:
    """Build one member of the family; with `pretrained`, in eval mode, from weights whose identity has been checked.

    Args:
        variant: Its name for timm, without a tag.
        depth: A key of DEPTHS.
        norm: A key of NORMS.
        pretrained: Whether to load weights.
        kwargs: The arguments of `timm.create_model`.

    Raises:
        CheckpointError: If the weights are missing, damaged or another network's.
        ValueError: If norm or stem are unknown, or the norm is another one than the name's.
    """
    args = {**DEPTHS[depth], "norm": norm, **kwargs}
    check_name("norm", args["norm"], NORMS)
    check_name("stem", args["stem"], STEMS)
    if args["norm"] != norm:
        raise ValueError(
            f"{variant} has norm {norm!r} in its name, got norm={args['norm']!r}: create {depth}_{args['norm']}"
        )
    given, overlay = args.pop("pretrained_cfg", None), dict(args.pop("pretrained_cfg_overlay", None) or {})
    asked = asked_for(given, overlay) if pretrained else None
    build = partial(build_model_with_cfg, RobustResNet, variant, pretrained, pretrained_cfg=given)
    model: RobustResNet
    if asked is None or asked.kind == "state_dict":
        plain = {} if asked is None else {"source": "", "state_dict": asked.value}  # "local-dir:" says another source
        usual = _LARGE if args["stem"] == "imagenet" and isinstance(given, str | None) else {}
        model = build(pretrained_cfg_overlay={**usual, **overlay, **plain}, **args)
        note_class_names(model, None)  # names are of weights
    else:
        name = f"{variant}.{given}" if isinstance(given, str) else variant  # timm names a tag here
        folder = locate(asked, name, args.get("cache_dir"))
        config = read_config(folder)
        args |= {key: value for key, value in config.model_args.items() if key not in kwargs}
        state = weights_for(folder, config, variant, norm, str(args["stem"]), promised=not asked.kind)
        model = build(pretrained_cfg_overlay=overlay_of(config, state, folder, overlay), **args)
        vars(model)["_model_args"] = dict(config.model_args)  # timm adds those of the call
        check_loaded(model, config, state, args)
        check_computation(model, config, name, kwargs, overlay)
        note_loaded(model, config)
    model.plain_timm = plain_timm(depth, norm, str(args["stem"]))
    return without_state(model.eval() if pretrained else model)


def load_model(source: str | Path, **kwargs: Any) -> nn.Module:
    """Make a model from a checkpoint folder, or from any name that timm knows.

    Args:
        source: A folder of `save_checkpoint` ("~" is the user's own), or a name. A `_mixednoise` one, one with a tag
            ("resnet18s_ln.clean_tin") and an address ("hf-hub:owner/name") come with their weights, a bare architecture
            has random ones.
        kwargs: Arguments for `timm.create_model`.

    Returns:
        The model, in eval mode.

    Raises:
        CheckpointError: If the folder's weights are missing, damaged or another model's.
        ValueError: If the name is unknown; near names are offered.

    Example:
        >>> model = load_model("resnet18s_ln_mixednoise")
        >>> model.num_classes, model.pretrained_cfg["input_size"], model.training
        (200, (3, 32, 32), False)
    """
    source = os.path.expanduser(source)
    if Path(source).is_dir():
        return _load_folder(Path(source), kwargs).eval()
    if ":" not in source and ("/" in source or source.split(".")[0] not in timm.list_models()):
        hint = did_you_mean(source, timm.list_models(), most=4) or "`robust-hub models` lists ours"
        raise ValueError(f"no checkpoint folder and no model is called {source!r}: {hint}")
    kwargs.setdefault("pretrained", "." in source or ":" in source or source.endswith(SUFFIX))
    _reach(source, kwargs)
    if kwargs["pretrained"] and (folder := folder_at(source, kwargs.get("cache_dir"))) is not None:
        return _load_folder(folder, kwargs).eval()
    model: nn.Module = timm.create_model(source, **kwargs)
    return model.eval()


def _reach(source: str, kwargs: Mapping[str, Any]) -> None:
    """Refuse at once what timm would ask the Hub for in vain: our own names are found, and refused, by `create`."""
    if kwargs.keys() & {"cache_dir", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path"}:
        return
    if source.startswith("hf-hub:"):
        repo_id, _, revision = source.removeprefix("hf-hub:").partition("@")
        reach_file(source, repo_id, CONFIG, revision or "main")
    elif kwargs["pretrained"] and ":" not in source:
        try:
            cfg = get_pretrained_cfg(source)
        except RuntimeError:  # a tag that timm has not; one of ours is looked for on the shelves
            if source.split(".")[0] in NAMES or checkpoint_folder(source) is not None:
                return
            near = did_you_mean(source, timm.list_pretrained(), most=4)
            raise ValueError(f"timm has no weights called {source}: {near or 'leave the tag out'}") from None
        if cfg is not None and isinstance(cfg.hf_hub_id, str) and not cfg.file:
            reach_file(source, cfg.hf_hub_id, "*.*")


def _load_folder(folder: Path, kwargs: dict[str, Any]) -> nn.Module:
    """Sketch the model as it was saved to check the weights, then make the one that is asked for to hold them."""
    config = read_config(folder)
    overlay = dict(kwargs.pop("pretrained_cfg_overlay", None) or {})
    args = {**config.model_args, **kwargs}
    if asked_for(kwargs.get("pretrained_cfg"), overlay).kind or not kwargs.get("pretrained", True):
        return _load_elsewhere(config, args, overlay)
    state = read_weights(folder)
    saved = sketch(config, len(state), folder)
    stem = str(kwargs.get("stem", getattr(saved, "stem", "")))
    check_kind(folder, described(config, saved), {"norm": str(getattr(saved, "norm_kind", "")), "stem": stem})
    check_keys(state, saved)
    warn_unchecked(config, folder)
    args = {"num_classes": config.num_classes, **args, "pretrained": True}
    overlaid = overlay_of(config, state, folder, overlay)
    try:
        model: nn.Module = timm.create_model(config.architecture, **args, pretrained_cfg_overlay=overlaid)
    except RuntimeError as error:
        if kwargs or ran_out(error):
            raise
        words = shown(" ".join(str(error).split()), 200)
        raise CheckpointError(f"{folder / CONFIG} describes images or layers unlike its weights ({words})") from None
    check_loaded(model, config, state, args)
    check_computation(model, config, str(folder), kwargs, overlay)
    note_loaded(model, config)
    return without_state(model)


def _load_elsewhere(config: CheckpointConfig, args: dict[str, Any], overlay: Mapping[str, Any]) -> nn.Module:
    """Make the network that a config describes with the weights that its caller names, or with random ones."""
    given = args.pop("pretrained_cfg", None)
    base = {**config.pretrained_cfg, "num_classes": config.num_classes, **said_of(given)}
    base |= {"architecture": config.architecture}
    args.setdefault("pretrained", True)
    model: nn.Module = timm.create_model(
        config.architecture, **args, pretrained_cfg=base, pretrained_cfg_overlay=dict(overlay)
    )
    return without_state(model)
