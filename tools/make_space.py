"""Make the folder of a Gradio Space that is complete: page, package, checkpoints, requirements.

    python tools/make_space.py OUT [CHECKPOINT ...]
    hf upload OWNER/NAME OUT . --repo-type space

Nothing is sent by this script. Without checkpoints named, the page offers two small ones: the usual, and one that never
saw noise, which shows what a network without it is worth.
"""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path

from robust_hub.app.networks import USUAL
from robust_hub.models.config import read_config
from robust_hub.models.shelves import PACKAGED, SHELF, checkpoint_folder

ROOT = Path(__file__).parents[1]
OFFERED = (USUAL, "resnet18s_ln.clean_cifar10_scratch")
CPU = "--extra-index-url https://download.pytorch.org/whl/cpu"  # a Space without a GPU needs no CUDA


def make_space(out: Path, names: tuple[str, ...] = OFFERED) -> Path:
    """Write the folder.

    Args:
        out: A folder that is not there yet.
        names: Checkpoints that the page offers.

    Returns:
        The folder.

    Raises:
        ValueError: If out is there, or a checkpoint is nowhere.
    """
    if out.exists():
        raise ValueError(f"expected a folder that is not there yet, got {out}: name another, or remove it")
    shutil.copytree(ROOT / "space", out, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "robust_hub", out / "robust_hub", ignore=shutil.ignore_patterns("__pycache__"))
    (out / "requirements.txt").write_text("\n".join([CPU, *_requirements()]) + "\n")
    for name in _with_bases(names):
        shutil.copytree(_folder(name), out / SHELF / name)
    return out


def _requirements() -> list[str]:
    """Give what the package and its page need; the Space brings Gradio itself, of the version in its README."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["app"]]


def _with_bases(names: tuple[str, ...]) -> list[str]:
    """Add the checkpoints that differences are stored to, but for those in the package."""
    found: list[str] = []
    for name in names:
        difference = read_config(_folder(name)).difference
        bases = () if difference is None else (difference.base,)
        found += [one for one in (name, *_with_bases(bases)) if not (PACKAGED / one).is_dir()]
    return list(dict.fromkeys(found))


def _folder(name: str) -> Path:
    folder = checkpoint_folder(name)
    if folder is None:
        raise ValueError(f"expected checkpoints on the shelf, got {name}: `robust-hub models` lists them")
    return folder


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    print(make_space(Path(sys.argv[1]), tuple(sys.argv[2:]) or OFFERED))
