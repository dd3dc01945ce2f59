"""The command line: thin doors to public functions. Its commands stand in the files beside this one."""

from __future__ import annotations

import click

from robust_hub.cli.app import app
from robust_hub.cli.certify import bench, certify
from robust_hub.cli.doctor import doctor
from robust_hub.cli.group import MainGroup
from robust_hub.cli.paper import demo, reproduce
from robust_hub.cli.publish import adopt, card, models, name_classes, publish, shelve, verify
from robust_hub.cli.report import report
from robust_hub.cli.train import finetune, pretrain
from robust_hub.cli.verify import verify_certificate

SECTIONS = {
    "Begin": ("demo", "app", "doctor", "models"),
    "Your own data": ("finetune", "certify", "report", "verify-certificate"),
    "Your own checkpoints": ("pretrain", "shelve", "card", "verify", "publish", "adopt", "name-classes"),
    "Measurements": ("bench", "reproduce"),
}
EPILOG = """
robust-hub COMMAND -h explains a command. With --json a command prints one JSON document.

\b
Your shell completes commands, options and names of models after:
  eval "$(_ROBUST_HUB_COMPLETE=bash_source robust-hub)"     (zsh_source, fish_source)
"""


@click.group(cls=MainGroup, sections=SECTIONS, epilog=EPILOG)
@click.version_option(package_name="robust-hub")
def main() -> None:
    """Certifiably robust pretrained vision models: pretrain on mixed noise, fine-tune clean, certify.

    A certificate says: whatever is done to this image, the smoothed network keeps its answer as long as the change is
    smaller than the radius (in l2, for pixels in [0, 1]). It is wrong with probability at most alpha, 0.001 by default.

    Example: robust-hub certify --model resnet18s_ln_mixednoise.cifar10_e5 --data cifar10/ --out runs/certified
    """


for _command in (
    *(models, shelve, pretrain, finetune, certify, report, bench),
    *(card, publish, verify, verify_certificate, adopt, name_classes, doctor, reproduce, demo, app),
):
    main.add_command(_command)
