"""`certify` with image files in the place of a data set: what is promised of each, in words, a picture and files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from robust_hub.cli.image_files import check_writable, keep_apart, names_of, stems_of, write
from robust_hub.cli.output import emit, is_main
from robust_hub.cli.stopping import WORK

if TYPE_CHECKING:
    from torch import nn

    from robust_hub.certification.one import CertifiedImage
    from robust_hub.certification.smoothing import SmoothedClassifier
    from robust_hub.guarantee.certificate import Certificate
    from robust_hub.images.photograph import Photograph

SIGMAS, SAMPLES = (0.25, 0.5, 1.0), 1000  # of an image, where nothing else is asked for: seconds on a CPU
OF_DATA = ("split", "every", "limit", "classes", "image_column", "label_column", "layout", "num_workers")


def certify_images(
    images: Sequence[Path],
    *,
    model: str,
    sigmas: Sequence[float],
    out: Path | None,
    size: int | None,
    dtype: str,
    compile: str,
    quiet: bool,
    batch_size: int | None,
    noise: str,
    seed: int | None,
    n: int | None,
    **options: Any,
) -> None:
    """Certify image files, say of each what is promised, and write picture, pixels and certificates."""
    click.get_current_context().meta[WORK] = "certify IMAGE"
    _refuse_options_of_data()
    if not is_main():  # of several processes one has the work, and the files
        return
    from robust_hub.certification.one import certify_image, contents_of
    from robust_hub.certification.smoothing import SmoothedClassifier
    from robust_hub.guarantee.plans import make_plan
    from robust_hub.images.photograph import read_photograph
    from robust_hub.images.pixels import channels_of
    from robust_hub.models.sizes import check_size

    if _by_default("sigmas"):
        sigmas = SIGMAS
    sigmas = tuple(dict.fromkeys(sigmas))
    asked = {name: options[name] for name in ("n0", "alpha", "bound", "radii")}
    plan = make_plan(None, n=SAMPLES if n is None else n, **asked)
    network = _load(model, dtype, compile)
    size = _size_of(network) if size is None else size
    check_size(network, (channels_of(network), size, size))
    photographs = [read_photograph(path, size, channels_of(network)) for path in images]  # all, before the first vote
    stems = stems_of(out, images, photographs)
    keep_apart([name for stem in stems for name in names_of(out, stem, sigmas).values()], images)
    check_writable(stems[0].parent)
    smoothed = SmoothedClassifier(network)
    picture = find_spec("matplotlib") is not None
    said, values = [], []
    certificates: list[Certificate] = []
    for path, photograph, stem in zip(images, photographs, stems, strict=True):
        names = names_of(out, stem, sigmas)
        how: dict[str, Any] = {"batch_size": batch_size, "noise": noise, "seed": seed}
        one = certify_image(smoothed, photograph.pixels, sigmas, plan, progress=not quiet, **how)
        files = contents_of(one, names, picture=picture)
        write(files)
        said.append(_in_words(photograph, one, list(files), model, picture))
        certificates += one.certificates
        values.append({"image": path, "files": list(files), **_values(one)})
    said += [*_about_network(network, smoothed, model), *_about_samples(certificates, n is None)]
    emit(values, "\n\n".join(said))


def _by_default(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) == ParameterSource.DEFAULT


def _refuse_options_of_data() -> None:
    if not _by_default("data"):
        raise ValueError("expected images or --data, got both: leave one of them out")
    for name in OF_DATA:
        if name in click.get_current_context().params and not _by_default(name):
            option = name.replace("_", "-")
            raise ValueError(f"expected --{option} with --data alone, got it beside images: leave it out")


def _load(model: str, dtype: str, compile: str) -> nn.Module:
    import torch

    from robust_hub.certification.compiling import compile_network
    from robust_hub.models.resnets import load_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network: nn.Module = load_model(model).to(  # type: ignore[call-overload]
        device=device, dtype=getattr(torch, dtype), memory_format=torch.channels_last
    )
    return compile_network(network) if compile == "always" else network


def _size_of(network: nn.Module) -> int:
    """Give the side of the images that a network was made for."""
    from robust_hub.models.sizes import own_size

    size = own_size(network)
    if size is None:
        raise ValueError("expected --size: this network does not say which size of square images it was trained on")
    return size


def _in_words(photograph: Photograph, one: CertifiedImage, files: list[Path], model: str, picture: bool) -> str:
    """Say of one image what each certificate promises, and where it was written."""
    from robust_hub.evidence.picture import of_several, telling
    from robust_hub.guarantee.words import headline, name_in_words, promise, small_print

    base = name_in_words(one.base, None if one.classes is None else one.classes[one.base])
    lines = [photograph.describe(), f"without noise  {base} (nothing is promised of that)"]
    for c in one.certificates:
        votes = f"{c.count:,} of {c.n:,} votes" if c.n else f"{c.n0:,} noisy copies"
        lines.append(f"sigma {c.sigma:<8g} {headline(c, one.classes)} ({votes})")
    promises = [promise(c, one.classes, one.image.shape) for c in one.certificates]
    general = list(dict.fromkeys(said for c in one.certificates for said in small_print(c)))
    prose = [_wrapped(text) for text in (*promises, " ".join([*general, of_several(one.certificates)])) if text]
    certificates = files[-len(one.certificates) :]
    seen, certificate = files[-len(one.certificates) - 1], certificates[telling(one.certificates)]
    of = ["--model", model, "--image", str(seen), "--fresh", "1000"]
    check = shlex.join(["robust-hub", "verify-certificate", str(certificate), *of])
    there = f"picture  {files[0]}" if picture else 'picture  none: pip install "robust-hub[plot]" has one drawn'
    return "\n".join([*lines, "", *"\n\n".join(prose).split("\n"), "", there, f"check    {check}"])


def _about_network(network: nn.Module, smoothed: SmoothedClassifier, model: str) -> list[str]:
    """Say what class names a network lacks, and that classes of a pretraining are not the caller's."""
    from robust_hub.models.modes import uncompiled
    from robust_hub.provenance import provenance_of

    provenance = provenance_of(uncompiled(network))
    said = []
    if smoothed.classes is None:
        said.append(
            f"{model} does not say the names of its classes, which are numbered instead; for a checkpoint folder, "
            "robust-hub name-classes FOLDER --data DATA writes them."
        )
    if provenance is not None and provenance.job == "pretrain":
        said.append(
            f"{model} was pretrained on {provenance.data or 'other data'}, and these are the classes of that data; "
            "robust-hub finetune makes a network of yours."
        )
    return [_wrapped(text) for text in said]


def _about_samples(certificates: Sequence[Certificate], by_default: bool) -> list[str]:
    """Say how many samples were drawn where nobody asked, and that more give more."""
    if not by_default:
        return []
    from robust_hub.guarantee.reach import largest_of

    if any(c.radii is not None for c in certificates):
        if not any(c.undecided or c.out_of_reach for c in certificates):
            return []
        text = (
            f"At most {SAMPLES:,} noisy copies a sigma were drawn, too few to decide every radius that was asked for; "
            "--n 10000 may decide more."
        )
        return [_wrapped(text)]
    limits = dict.fromkeys(f"{largest_of(c) or 0:.2f} at sigma {c.sigma:g}" for c in certificates)
    text = (
        f"Counted were {SAMPLES:,} noisy copies a sigma, which cannot certify more than about {', '.join(limits)}; "
        "--n 10000 takes ten times as long and may give more."
    )
    return [_wrapped(text)]


def _values(one: CertifiedImage) -> dict[str, Any]:
    """Give what was found as JSON values; the certificates in full are in their files."""
    from robust_hub.guarantee.words import meaning

    return {
        "base": one.base,
        "classes": one.classes,
        "certificates": [
            {
                "sigma": c.sigma,
                "abstained": c.abstained,
                "class": c.prediction,
                "class_name": None if c.abstained or one.classes is None else one.classes[c.prediction],
                "radius": c.radius,
                "count": c.count,
                "n": c.n,
                "alpha": c.alpha,
                "meaning": meaning(c, one.classes, one.image.shape),
            }
            for c in one.certificates
        ],
    }


def _wrapped(text: str) -> str:
    return click.wrap_text(text, width=78)
