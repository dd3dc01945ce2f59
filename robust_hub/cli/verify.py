"""The command that checks a certificate that came as a file: verify-certificate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robust_hub.cli.completion import complete_model
from robust_hub.cli.options import FILE
from robust_hub.cli.output import emit, json_option, wants_json
from robust_hub.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robust_hub.guarantee.certificate import Certificate
    from robust_hub.guarantee.origin import Origin

MOST_BYTES = 4_000_000  # of a certificate; one of 1,000 classes has about 6,000
MOST_PIXELS = 50_000_000  # of a .npy
LEVEL = 1e-6  # a certificate whose bounds hold is contradicted with at most this probability


@click.command("verify-certificate")
@click.argument("file", type=FILE)
@click.option(
    "--model",
    metavar="MODEL",
    help="Compare this network: a checkpoint's name or folder.",
    shell_complete=complete_model,
)
@click.option("--image", type=FILE, help="Compare this image: a picture, or a .npy of bytes or of floats in [0, 1].")
@click.option("--fresh", type=int, help="Draw so many fresh samples, with a new seed; with --model and --image.")
@json_option
def verify_certificate(file: Path, **options: Any) -> None:
    """Check a certificate FILE: whether its votes support it, and what it is about.

    The exit code is 0 only if all is well.

    Example: robust-hub verify-certificate cat.json --model runs/cifar10 --image cat.png --fresh 10000
    """
    try:
        report = _verify(file, **options)
    except (ValueError, TypeError, OSError, CheckpointError) as error:
        if wants_json():
            emit({"file": file, "well": False, "why": " ".join(str(error).split())}, "")
        raise
    emit(report, lambda: _in_words(report))


def _verify(file: Path, model: str | None, image: Path | None, fresh: int | None) -> dict[str, Any]:
    """Check everything that is given, and say what the certificate claims and what was compared."""
    from robust_hub.guarantee.audit import audit
    from robust_hub.guarantee.plans import check_samples

    if fresh is not None:
        check_samples("--fresh", fresh)
        if model is None or image is None:
            raise ValueError("expected --model and --image with --fresh: fresh samples need both")
    certificate = _read(file)
    try:
        audit(certificate)
    except ValueError as error:
        raise ValueError(f"the votes of {file} do not support what it claims: {error}") from None
    report = {"file": str(file), "well": True, **_claims(certificate)}
    if model is None and image is None:
        return report
    if certificate.origin is None:
        raise ValueError(f"expected a certificate that says of which network and image it is, got {file}: it does not")
    network = None if model is None else _load_network(model, certificate.origin)
    pixels = None if image is None else _load_image(image, certificate.origin)
    report |= {"weights": network is not None or None, "image": pixels is not None or None}
    if fresh is not None:
        assert network is not None and pixels is not None
        report["fresh"] = _compare_fresh(network, pixels, certificate, fresh)
    return report


def _read(file: Path) -> Certificate:
    from robust_hub.guarantee.certificate import Certificate

    if not file.is_file():
        raise ValueError(f"expected the file of a certificate, got {file}: there is none")
    with open(file, "rb") as opened:
        content = opened.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"expected a certificate of at most {MOST_BYTES:,} bytes, got {file}: it is larger")
    try:
        return Certificate.from_json(content.decode())
    except ValueError as error:  # UnicodeDecodeError is one
        raise ValueError(f"can't read {file}: {error}") from None


def _claims(c: Certificate) -> dict[str, Any]:
    """Say what a certificate claims, as JSON values."""
    return {
        "abstained": c.abstained,
        "class": c.prediction,
        "class_name": c.class_name,
        "radius": c.radius,
        "radius_in_levels": 255 * c.radius,
        "squared_distance": c.squared_distance,
        "alpha": c.alpha,
        "sigma": c.sigma,
        "noise": c.noise,
        "tau": c.tau,
        "seed": c.seed,
        "reproduction": c.reproduction,
        "samples": c.samples,
        "weights": None,
        "image": None,
        "fresh": None,
    }


def _load_network(name: str, origin: Origin) -> nn.Module:
    """Load a network as the certificate's was, and refuse another one."""
    import torch

    from robust_hub.images.pixels import mean_std
    from robust_hub.models.identity import weights_hash
    from robust_hub.models.resnets import load_model

    cuda = origin.device.startswith("cuda") and torch.cuda.is_available()
    network: nn.Module = load_model(name).to(  # type: ignore[call-overload]
        device="cuda" if cuda else "cpu", dtype=getattr(torch, origin.dtype), memory_format=torch.channels_last
    )
    found = weights_hash(network)
    if found != origin.weights:
        raise ValueError(
            f"other weights: the certificate is about {origin.model} in {origin.dtype} with sha256 "
            f"{origin.weights[:12]}..., {name} has {found[:12]}...: it says nothing of this network"
        )
    if mean_std(network) != (origin.mean, origin.std):
        raise ValueError(
            f"another normalisation: the certificate is about mean {origin.mean} and std {origin.std}, {name} has "
            f"{mean_std(network)}: it says nothing of this network"
        )
    _check_function(network, name, origin)
    return network


def _check_function(network: nn.Module, name: str, origin: Origin) -> None:
    """Refuse a network that computes something else with the same weights; another machine rounds otherwise."""
    import torch

    from robust_hub.certification.compiling import compile_network
    from robust_hub.certification.origin import Origins
    from robust_hub.certification.smoothing import SmoothedClassifier

    # Images of one channel have no layout of their own: then that of the weights decides how a network rounds.
    layouts = (torch.channels_last, *([torch.contiguous_format] if origin.image_shape[0] == 1 else []))
    for layout in layouts:
        network.to(memory_format=layout)
        smoothed = SmoothedClassifier(compile_network(network) if origin.compiled else network)
        found = Origins(smoothed.sampler).of(origin.image_shape, origin.batch_size)
        if found.logits == origin.logits:
            break
    alike = all(dict(found.versions).get(of) == dict(origin.versions).get(of) for of in ("torch", "timm"))
    if found.device == origin.device and alike and found.logits != origin.logits:
        raise ValueError(
            f"another function: {name} has the weights of the certificate, but gives other logits of fixed images on "
            f"the same device ({found.device}): its norms or layers are others; it says nothing of this network"
        )


def _load_image(path: Path, origin: Origin) -> Tensor:
    """Load an image, float32 (C, H, W) in [0, 1], and refuse another one than the certificate's."""
    from robust_hub.images.identity import image_hash

    pixels = _load_array(path) if path.suffix == ".npy" else _load_picture(path, origin.image_shape)
    shape = tuple(pixels.shape)
    if shape != origin.image_shape or image_hash(pixels) != origin.image:
        has = f"has shape {shape}" if shape != origin.image_shape else "has other pixels"
        raise ValueError(
            f"another image: the certificate is about pixels of shape {origin.image_shape} with sha256 "
            f"{origin.image[:12]}..., {path} {has}: it says nothing of this image"
        )
    return pixels if pixels.is_floating_point() else pixels / 255


def _load_array(path: Path) -> Tensor:
    import numpy as np
    import torch

    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"expected an array of pixels in {path}, got none that can be read ({error})") from None
    if array.size > MOST_PIXELS:
        raise ValueError(f"expected at most {MOST_PIXELS:,} pixels in {path}, got {array.size:,}: cut it to the image")
    if array.dtype not in (np.uint8, np.float16, np.float32, np.float64):
        raise ValueError(f"expected pixels of uint8, or floats in [0, 1], in {path}, got {array.dtype}: convert them")
    return torch.from_numpy(np.array(array))


def _load_picture(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Read a picture as data sets are read, fitted to the certificate's size where that is a square."""
    from robust_hub.images.decoding import MODES
    from robust_hub.images.photograph import read_photograph

    channels, height, width = shape
    if channels not in MODES:
        raise ValueError(f"expected a .npy with {channels} channels, got a picture, {path}: it has 1, 3 or 4")
    return read_photograph(path, height if height == width else None, channels).pixels


def _compare_fresh(network: nn.Module, image: Tensor, certificate: Certificate, samples: int) -> dict[str, Any]:
    """Draw fresh samples and refuse a certificate that they contradict."""
    from robust_hub.guarantee.audit import contradiction

    votes = _draw(network, image, certificate, samples)
    p_value = contradiction(certificate, votes)
    count = None if certificate.abstained else votes[certificate.prediction]
    if p_value <= LEVEL:
        raise ValueError(
            f"contradicted: {count:,} of {samples:,} fresh votes are for the class, whose probability the certificate "
            f"bounds by {certificate.p_lower:.6g}; were its bounds true, votes so far off would come with probability "
            f"{p_value:.2g}"
        )
    return {"samples": samples, "count": count, "p_value": p_value}


def _draw(network: nn.Module, image: Tensor, certificate: Certificate, samples: int) -> tuple[int, ...]:
    """Count fresh votes of each class, with the operating system's entropy as seed, as the certificate's were."""
    from robust_hub.certification.compiling import compile_network
    from robust_hub.certification.smoothing import SmoothedClassifier
    from robust_hub.guarantee.plans import fixed_plan
    from robust_hub.images.laws import CHOICES

    origin = certificate.origin
    assert origin is not None
    network = compile_network(network) if origin.compiled else network
    smoothed = SmoothedClassifier(network, mean=origin.mean, std=origin.std)
    plan = fixed_plan(n0=1, n=samples, alpha=0.9)  # for its votes alone
    noise = CHOICES[certificate.noise]
    return smoothed.certify(image, certificate.sigma, plan=plan, batch_size=origin.batch_size, noise=noise).counts


def _in_words(report: dict[str, Any]) -> str:
    """Say a report in lines."""
    lines = [f"{report['file']}: its votes support what it claims"]
    if report["abstained"]:
        lines.append("claim    none: no class could be certified")
    else:
        name = "" if report["class_name"] is None else f" ({report['class_name']})"
        distance = f"{report['radius']:.6g}, pixels in [0, 1]; {report['radius_in_levels']:.6g} in 8-bit levels"
        lines.append(f"claim    class {report['class']}{name} for every image at an l2 distance below {distance}")
    if report["squared_distance"] is not None:
        squared = report["squared_distance"]
        lines.append(
            f"8 bits   every 8-bit image with a sum of squared differences of at most {squared:,} has the class"
        )
    lines.append(f"alpha    {report['alpha']:g}: the probability of drawing noise that makes such a claim false")
    paid = f", total variation {report['tau']:g} paid" if report["tau"] else ""
    lines.append(f"noise    sigma {report['sigma']:g}, {report['noise']}{paid}; {report['samples']:,} samples")
    lines.append(f"seed     {_seed(report)}")
    for what, known in (("weights", report["weights"]), ("image", report["image"])):
        lines.append(f"{what:<8} {'those of the certificate' if known else 'not compared'}")
    fresh = report["fresh"]
    if fresh is not None and fresh["count"] is None:
        lines.append("fresh    drawn, with nothing to contradict")
    elif fresh is not None:
        votes = f"{fresh['count']:,} of {fresh['samples']:,} votes"
        lines.append(f"fresh    {votes} for the class, no contradiction (p = {fresh['p_value']:.3g})")
    return "\n".join(lines)


def _seed(report: dict[str, Any]) -> str:
    seed = "not kept" if report["seed"] is None else str(report["seed"])
    if report["reproduction"]:
        return f"{seed}; a reproduction: the caller gave it, so that network or image may have been chosen for it"
    return f"{seed}; said to be drawn from the operating system after network and image were fixed"
