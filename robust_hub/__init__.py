"""Certifiably robust pretrained vision models for timm: pretrain, fine-tune clean, certify.

Importing registers the models with timm: at once if timm is imported already, else when it is. What takes seconds, such
as torch, is imported with the first public name that needs it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

from robust_hub.start import hush

hush()  # what follows takes a while

from wrapt import register_post_import_hook  # noqa: E402

if TYPE_CHECKING:
    from robust_hub.certification.evaluate import certify
    from robust_hub.certification.smoothing import SmoothedClassifier
    from robust_hub.errors import CheckpointError
    from robust_hub.evidence.accuracy import certified_accuracy
    from robust_hub.evidence.records import read_run
    from robust_hub.guarantee.certificate import ABSTAIN, Certificate
    from robust_hub.images.data import ImageData, load_data
    from robust_hub.images.given import prepare
    from robust_hub.images.noise import NoiseMixture
    from robust_hub.models.checkpoint import save_checkpoint
    from robust_hub.models.resnets import load_model
    from robust_hub.training.finetune import finetune_clean
    from robust_hub.training.pretrain import pretrain_mixed_noise

__version__ = "0.1.0"
_ENTRYPOINTS = "robust_hub.models.entrypoints"

__all__ = [
    "ABSTAIN",
    "Certificate",
    "CheckpointError",
    "ImageData",
    "NoiseMixture",
    "SmoothedClassifier",
    "certified_accuracy",
    "certify",
    "finetune_clean",
    "load_data",
    "load_model",
    "prepare",
    "pretrain_mixed_noise",
    "read_run",
    "save_checkpoint",
]

_MODULES = {
    "ABSTAIN": "guarantee.certificate",
    "Certificate": "guarantee.certificate",
    "CheckpointError": "errors",
    "ImageData": "images.data",
    "NoiseMixture": "images.noise",
    "SmoothedClassifier": "certification.smoothing",
    "certified_accuracy": "evidence.accuracy",
    "certify": "certification.evaluate",
    "finetune_clean": "training.finetune",
    "load_data": "images.data",
    "load_model": "models.resnets",
    "prepare": "images.given",
    "pretrain_mixed_noise": "training.pretrain",
    "read_run": "evidence.records",
    "save_checkpoint": "models.checkpoint",
}

if not TYPE_CHECKING:  # with it, mypy would let any name pass

    def __getattr__(name: str) -> object:
        """Import a public name, or a module of the package, when it is asked for."""
        if name in _MODULES:
            value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
            return globals().setdefault(name, value)
        if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _register_models(timm: ModuleType) -> None:
    """Register the models at the end of timm's import, which fails if this does; the next one tries again."""
    try:
        import_module(_ENTRYPOINTS)
    except BaseException as error:
        error.add_note("robust_hub could not register its models with timm")
        sys.modules.pop(timm.__name__, None)
        register_post_import_hook(_register_models, timm.__name__)
        raise


if "timm" in sys.modules:
    import_module(_ENTRYPOINTS)
else:
    register_post_import_hook(_register_models, "timm")
