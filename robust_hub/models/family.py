"""The names of our networks, without the networks: they are registered, listed and compared before torch is there."""

from __future__ import annotations

SUFFIX = "_mixednoise"  # of pretrained weights
# Name for timm -> (depth, norm).
NAMES: dict[str, tuple[str, str]] = {
    f"{depth}_{norm}{suffix}": (depth, norm)
    for depth in ("resnet18s", "resnet26", "resnet50", "resnet152")
    for norm in ("bn", "gn", "in", "ln")
    for suffix in ("", SUFFIX)
}
