"""Certifiably robust pretrained vision models for timm: pretrain, fine-tune clean, certify.

Importing registers the models with timm.
"""

from __future__ import annotations

from robust_hub.accuracy import certified_accuracy
from robust_hub.certificate import ABSTAIN, Certificate
from robust_hub.checkpoint import save_checkpoint
from robust_hub.data import ImageData, load_data
from robust_hub.evaluate import certify
from robust_hub.finetune import finetune_clean
from robust_hub.identity import CheckpointError
from robust_hub.models import load_model
from robust_hub.noise import NoiseMixture
from robust_hub.pretrain import pretrain_mixed_noise
from robust_hub.records import read_run
from robust_hub.smoothing import SmoothedClassifier

__version__ = "0.1.0"

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
    "pretrain_mixed_noise",
    "read_run",
    "save_checkpoint",
]
