"""Our networks: timm's ResNet with a norm and a stem that are named choices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timm.models import load_checkpoint
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from robust_hub.layout import CONFIG, WEIGHTS
from robust_hub.models.classes import note_class_names
from robust_hub.models.filling import load_into
from robust_hub.models.norms import NORMS
from robust_hub.names import did_you_mean

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
        check_name("norm", norm, NORMS)
        check_name("stem", stem, STEMS)
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

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a linear layer in the place of the classifier has outputs without names, too."""
        before = self.__dict__.get("_modules", {}).get(name) if name == "fc" else None
        super().__setattr__(name, value)
        if isinstance(before, nn.Linear) and isinstance(value, nn.Linear) and value is not before:
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
            load_into(self, folder, self.norm_kind, self.stem)
        else:
            load_checkpoint(self, str(path))


def check_name(what: str, name: str, names: Mapping[str, Any]) -> None:
    """Refuse an unknown name of a norm or a stem.

    Raises:
        ValueError: Offering near names.
    """
    if name not in names:
        raise ValueError(f"unknown {what} {name!r}: {did_you_mean(name, names, names)}")


def _check_stem_arguments(stem: str, kwargs: Mapping[str, Any]) -> None:
    """Refuse what shapes timm's own stem, where it is replaced by another one."""
    if stem == "imagenet":
        return
    for name in ("stem_type", "replace_stem_pool"):
        if value := kwargs.get(name):
            raise ValueError(f"expected no {name} with stem {stem!r}, got {value!r}: leave it out, or stem='imagenet'")
