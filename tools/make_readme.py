"""Write the numbers of README.md from the records of the shelf; with --check only compare.

Run it from anywhere: python tools/make_readme.py [--check]
"""

from __future__ import annotations

from pages import DOCS, write_or_check

from robust_hub.evidence.accuracy import certified_accuracy, clean_accuracy, decides
from robust_hub.evidence.comparisons import best_per_radius
from robust_hub.evidence.tables import set_rows
from robust_hub.models.shelves import checkpoint_folder
from robust_hub.publishing.evidence import certification, describe, read_evidence

PAGE = DOCS.parent / "README.md"
FIRST, SIGMA = "resnet152_ln_mixednoise.cifar10", 0.25  # what the first snippet makes, and the sigma that it asks for
NAMES = (
    "resnet152_ln_mixednoise",
    FIRST,
    "resnet152_ln_mixednoise.cifar100",
    "resnet18s_ln_mixednoise",
    "resnet18s_ln_mixednoise.cifar10_e5",
    "resnet18s_ln_mixednoise.cifar100",
    "resnet18s_ln.noise0.25_cifar10_scratch",
)
RADII = (0.25, 0.5, 1.0)

_NOISES = {"float32": "float32", "lattice255": "lattice"}


def numbers() -> str:
    """Say what the first snippet comes to."""
    clean, _ = _accuracies(FIRST)
    folder = checkpoint_folder(FIRST)
    assert folder is not None
    (run,) = (run for run in certification(folder) if run.sigma == SIGMA)
    certified = [certified_accuracy(run.records, radius).percent for radius in RADII]
    return (
        f"One clean epoch on CIFAR-10 made of it a network with {clean} % accuracy on clean images and a certified "
        f"accuracy of {certified[0]} % at radius {RADII[0]:g} and {certified[1]} % at {RADII[1]:g} "
        f"({len(run.records)} test images, sigma {SIGMA:g}, n = {int(run.identity['n']):,}, the network in "
        f"{run.identity['dtype']}, {_NOISES[run.noise]} noise, 95 % intervals; "
        f"[card](model_cards/{FIRST}/README.md)). It is `{FIRST}`: take that name where no accelerator is at hand to "
        "fine-tune a ResNet-152."
    )


def checkpoints() -> str:
    """Set the checkpoints that matter most."""
    header = ["name", "what it is", "MB", "clean", *(f"certified at {radius:g}" for radius in RADII), "noise", "type"]
    rows = []
    for name in NAMES:
        one = describe(read_evidence(name))
        clean, certified = _accuracies(name)
        size = f"{one.megabytes:.1f}{'' if one.base is None else ' and its base'}"
        folder = checkpoint_folder(name)
        runs = certification(folder) if folder else ()
        said = [{_NOISES[run.noise] for run in runs}, {str(run.identity["dtype"]) for run in runs}]
        how = [", ".join(sorted(words)) or "-" for words in said]
        rows.append([f"`{name}`", one.trained, size, clean, *certified, *how])
    return set_rows(header, rows)


def _accuracies(name: str) -> tuple[str, list[str]]:
    """Give clean and certified accuracies of a checkpoint in words, "-" where it has no records."""
    folder = checkpoint_folder(name)
    assert folder is not None, f"{name} is not on the shelf"
    runs = [run for run in certification(folder) if all(decides(run.records, radius) for radius in RADII)]
    if not runs:
        return "-", ["-"] * len(RADII)
    clean = clean_accuracy(runs[0].records)
    return "-" if clean is None else clean.percent, [b.accuracy.percent for b in best_per_radius(runs, RADII)]


def parts() -> dict[str, str]:
    """Make every part of the page."""
    return {"numbers": numbers(), "checkpoints": checkpoints()}


if __name__ == "__main__":
    write_or_check(PAGE, parts(), "tools/make_readme.py")
