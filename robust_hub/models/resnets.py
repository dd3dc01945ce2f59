"""ResNets whose norm and stem are named choices.

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
import torch
from timm.models import build_model_with_cfg, get_pretrained_cfg, load_checkpoint, load_pretrained
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from robust_hub.errors import CheckpointError
from robust_hub.layout import CONFIG, WEIGHTS
from robust_hub.memory import ran_out
from robust_hub.models.addresses import folder_at
from robust_hub.models.asked import asked_for, locate, overlay_of, said_of
from robust_hub.models.checkpoint import check_keys, read_weights
from robust_hub.models.classes import note_class_names
from robust_hub.models.config import CheckpointConfig, read_config
from robust_hub.models.family import NAMES, SUFFIX
from robust_hub.models.foreign import check_promised, described, warn_unchecked
from robust_hub.models.loaded import check_computation, check_loaded
from robust_hub.models.norms import NORMS
from robust_hub.models.remote import reach_file
from robust_hub.models.shelves import checkpoint_folder
from robust_hub.models.sketch import sketch
from robust_hub.models.stored import check_kind
from robust_hub.names import did_you_mean
from robust_hub.parsing import shown
from robust_hub.provenance import note_provenance

STEMS = {
    "imagenet": "7x7 convolution of stride 2 and max-pool, timm's own, for 224x224",
    "cifar": "3x3 convolution of stride 1, for 32x32",
    "cifar_s2": "3x3 convolution of stride 2, for 32x32 at a quarter of the cost",
}
DEPTHS: dict[str, dict[str, Any]] = {
    "resnet18s": {"block": BasicBlock, "layers": (2, 2, 2, 2), "channels": (32, 64, 128, 256), "stem": "cifar_s2"},
    "resnet26": {"block": Bottleneck, "layers": (2, 2, 2, 2), "stem": "cifar"},
    "resnet50": {"block": Bottleneck, "layers": (3, 4, 6, 3), "stem": "cifar"},
    "resnet152": {"block": Bottleneck, "layers": (3, 8, 36, 3), "stem": "cifar"},
}
# The same networks in timm's own words, for whoever has no robust_hub; it has no instance norm and no CIFAR stem.
PLAIN_DEPTHS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet18s": ("resnet18", {"channels": [32, 64, 128, 256]}),
    **{depth: (depth, {}) for depth in ("resnet26", "resnet50", "resnet152")},
}
PLAIN_NORMS: dict[str, dict[str, Any]] = {
    "bn": {},
    "gn": {"norm_layer": "groupnorm"},
    "ln": {"norm_layer": "groupnorm1"},
}


class RobustResNet(ResNet):
    """timm's ResNet with a norm and a stem chosen by name.

    Args:
        block: timm's BasicBlock or Bottleneck.
        layers: Blocks per stage.
        norm: "bn", "gn" (32 groups), "in" or "ln" (over C, H, W; affine per channel).
        stem: "cifar", "cifar_s2" or "imagenet".
        in_chans: Input channels.
        kwargs: Whatever else timm's ResNet takes.

    Attributes:
        norm_kind: The norm.
        stem: The stem.
        plain_timm: Name and arguments with which timm alone makes the network; None where it cannot.

    Raises:
        ValueError: If norm or stem are unknown (the near names are offered), or an argument is about timm's own stem
            and another one is asked for.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: tuple[int, ...],
        norm: str = "ln",
        stem: str = "cifar",
        in_chans: int = 3,
        **kwargs: Any,
    ) -> None:
        _check_name("norm", norm, NORMS)
        _check_name("stem", stem, STEMS)
        _check_stem_arguments(stem, kwargs)
        super().__init__(block, layers, in_chans=in_chans, norm_layer=NORMS[norm], **kwargs)  # type: ignore[arg-type]
        self.norm_kind, self.stem = norm, stem
        self.plain_timm: tuple[str, dict[str, Any]] | None = None  # TorchScript reads a class's own
        if stem != "imagenet":
            stride = 2 if stem == "cifar_s2" else 1
            weight = next(self.conv1.parameters())
            conv1 = nn.Conv2d(in_chans, len(weight), 3, stride, 1, bias=False, device=weight.device, dtype=weight.dtype)
            nn.init.kaiming_normal_(conv1.weight, mode="fan_out", nonlinearity="relu")
            self.add_module("conv1", conv1)
            self.add_module("maxpool", nn.Identity())
            for info in self.feature_info:  # timm's own stem has stride 4, 2 of it before the pooling
                theirs: Any = info["reduction"]
                info["reduction"] = max(stride, theirs * stride // 4)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Make a new classifier, as timm does; its outputs have no names yet."""
        super().reset_classifier(num_classes, global_pool)
        note_class_names(self, None)

    def load_pretrained(self, path: str | Path) -> None:
        """Load the checked weights that `timm.models.load_pretrained` is told of, or a file of weights as it is.

        Args:
            path: A checkpoint's folder, its weights, which need not lie there as one file, or any file of weights.

        Raises:
            CheckpointError: If a checkpoint's weights are missing, damaged or another network's.
        """
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        if (folder / CONFIG).is_file() and (Path(path).is_dir() or Path(path).name == WEIGHTS):
            _load_into(self, folder)
        else:
            load_checkpoint(self, str(path))


_LARGE = {"input_size": (3, 224, 224), "pool_size": (7, 7)}  # what timm's own stem is for, where nobody says another


def _check_name(what: str, name: str, names: Mapping[str, Any]) -> None:
    if name not in names:
        raise ValueError(f"unknown {what} {name!r}: {did_you_mean(name, names, names)}")


def _check_stem_arguments(stem: str, kwargs: Mapping[str, Any]) -> None:
    """Refuse what shapes timm's own stem, where it is replaced by another one."""
    if stem == "imagenet":
        return
    for name in ("stem_type", "replace_stem_pool"):
        if value := kwargs.get(name):
            raise ValueError(f"expected no {name} with stem {stem!r}, got {value!r}: leave it out, or stem='imagenet'")


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
    _check_name("norm", args["norm"], NORMS)
    _check_name("stem", args["stem"], STEMS)
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
        state = _weights(folder, config, variant, norm, str(args["stem"]), promised=not asked.kind)
        model = build(pretrained_cfg_overlay=overlay_of(config, state, folder, overlay), **args)
        vars(model)["_model_args"] = dict(config.model_args)  # timm adds those of the call
        check_loaded(model, config, state, args)
        check_computation(model, config, name, kwargs, overlay)
        note_provenance(model, config.as_base())
        _note_names(model, config)
    model.plain_timm = _plain_timm(depth, norm, str(args["stem"]))
    return _without_state(model.eval() if pretrained else model)


def _plain_timm(depth: str, norm: str, stem: str) -> tuple[str, dict[str, Any]] | None:
    """Give timm's own name and arguments for a network, None where timm cannot make it."""
    if stem != "imagenet" or norm not in PLAIN_NORMS:
        return None
    name, args = PLAIN_DEPTHS[depth]
    return name, {**args, **PLAIN_NORMS[norm]}


def _note_names(model: nn.Module, config: CheckpointConfig) -> None:
    """Have a loaded model carry the names of its outputs, where it has the checkpoint's classifier."""
    own_head = getattr(model, "num_classes", None) == config.num_classes
    note_class_names(model, config.label_names if own_head else None)


def _load_into(model: RobustResNet, folder: Path) -> None:
    """Load a folder's checked weights into a network that is there, its head where it has as many outputs."""
    cfg: Any = model.pretrained_cfg
    config = read_config(folder)
    state = _weights(folder, config, str(cfg["architecture"]), model.norm_kind, model.stem)
    chans = next(model.conv1.parameters()).shape[1]
    given = dict(getattr(model, "_model_args", None) or {})
    load_pretrained(model, overlay_of(config, state, folder, {}), num_classes=model.num_classes, in_chans=chans)
    check_loaded(model, config, state, given)
    if config.model_args.keys() - given.keys():  # which the network was made without
        check_computation(model, config, str(folder), {"in_chans": chans, **given}, {})
    _note_images(model, config)
    note_provenance(model, config.as_base())
    _note_names(model, config)


def _note_images(model: nn.Module, config: CheckpointConfig) -> None:
    """Have a network say mean and std of weights that it was not made for, where its caller has not said others."""
    cfg: Any = model.pretrained_cfg
    usual = get_pretrained_cfg(".".join(filter(None, (cfg["architecture"], cfg.get("tag")))))
    for name in ("mean", "std"):
        if usual is not None and tuple(cfg[name]) == tuple(getattr(usual, name)) and name in config.pretrained_cfg:
            cfg[name] = tuple(config.pretrained_cfg[name])


def _without_state(model: nn.Module) -> nn.Module:
    cfg: Any = model.pretrained_cfg
    cfg.pop("state_dict", None)  # default_cfg is the same dict
    return model


def _weights(
    folder: Path, config: CheckpointConfig, variant: str, norm: str, stem: str, *, promised: bool = False
) -> dict[str, torch.Tensor]:
    """Read a folder's weights and compare them with the architecture.

    Args:
        folder: The checkpoint's folder.
        config: Its config.json.
        variant: The network's name for timm.
        norm: Its norm.
        stem: Its stem.
        promised: Whether a folder without hashes is refused, not warned of.
    """
    if promised:
        check_promised(config, folder)
    architecture = config.architecture.removesuffix(SUFFIX)
    if architecture != variant.removesuffix(SUFFIX):
        raise CheckpointError(f"{folder} holds weights of {architecture}, the model is {variant.removesuffix(SUFFIX)}")
    state = read_weights(folder, norm=norm, stem=stem)
    saved = sketch(config, len(state), folder)
    check_keys(state, saved)
    check_kind(folder, described(config, saved), {"norm": norm, "stem": stem})
    warn_unchecked(config, folder)
    return state


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
    note_provenance(model, config.as_base())
    _note_names(model, config)
    return _without_state(model)


def _load_elsewhere(config: CheckpointConfig, args: dict[str, Any], overlay: Mapping[str, Any]) -> nn.Module:
    """Make the network that a config describes with the weights that its caller names, or with random ones."""
    given = args.pop("pretrained_cfg", None)
    base = {**config.pretrained_cfg, "num_classes": config.num_classes, **said_of(given)}
    base |= {"architecture": config.architecture}
    args.setdefault("pretrained", True)
    model: nn.Module = timm.create_model(
        config.architecture, **args, pretrained_cfg=base, pretrained_cfg_overlay=dict(overlay)
    )
    return _without_state(model)
