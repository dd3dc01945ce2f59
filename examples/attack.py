"""Attack the smoothed classifier: how far above its certified accuracy can its robust accuracy be?

    python examples/attack.py
    python examples/attack.py --model resnet18s_ln_mixednoise.cifar10_e5 --data cifar10/ --images 100 --out attack.jsonl

A certificate bounds robust accuracy from below. An attack bounds it from above: an image within the budget that the
smoothed classifier takes for another class shows that it is not robust there. So no attack may succeed within a
certified radius, but for the alpha of each certificate and of each prediction that judges an attack. Images are 8-bit
before and after the attack, so that distances are compared in whole numbers. docs/attack.md has one network's curve.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

import robust_hub
from robust_hub import ABSTAIN, ImageData, NoiseMixture, SmoothedClassifier
from robust_hub.certification.matching import match
from robust_hub.evidence.accuracy import Proportion, proportion
from robust_hub.files import replace_text
from robust_hub.images.laws import make_noise
from robust_hub.images.pixels import normalize
from robust_hub.models.identity import weights_hash
from robust_hub.models.modes import eval_mode
from robust_hub.provenance import commit, versions

Row = dict[str, Any]
ALPHA, JUDGE = 0.001, 1000  # of each certificate and each prediction that judges; samples of the latter


@dataclass(frozen=True)
class Attack:
    """Search for adversarial images by projected gradient descent on a class's expected softmax.

    Attributes:
        smoothed: The smoothed classifier, its network in float32.
        sigma: Standard deviation of the noise, [0, 1]-pixel units.
        steps: Gradient steps from each start, the first one twice the budget long, each one shorter.
        restarts: Starts: one that is given, the others random.
        m: Fresh noisy copies of an image for each gradient.

    Source: Salman et al. 2019, SmoothAdv.
    """

    smoothed: SmoothedClassifier
    sigma: float
    steps: int = 10
    restarts: int = 2
    m: int = 16

    def search(self, pixels: Tensor, label: int, budget: float, noise: torch.Generator, start: Tensor) -> Tensor:
        """Find the image within the budget, among 8-bit ones, that looks least like a class.

        Args:
            pixels: The image, int64 (C, H, W) in 0..255.
            label: The class to lead away from.
            budget: l2 distance, [0, 1]-pixel units, above 0.
            noise: Source of randomness on the network's device.
            start: The first start, as pixels: the image itself, or what was found with a smaller budget.

        Returns:
            The best image found, int64 (C, H, W) in 0..255.
        """
        x, first = (image.float().to(self.smoothed.device) / 255 for image in (pixels, start))
        random = torch.randn((self.restarts - 1, *x.shape), generator=noise, device=x.device)
        change = project(torch.cat([(first - x)[None], budget * direction(random)]), x, budget)
        with eval_mode(self.smoothed.model):
            for step in range(self.steps):
                change.requires_grad_()
                value = self.log_probability(x + change, label, self.m, noise).sum()
                (gradient,) = torch.autograd.grad(value, change)
                length = 2 * budget * (1 - step / self.steps)
                change = project(change.detach() - length * direction(gradient), x, budget)
            found = torch.stack([round_within(one, pixels, budget) for one in change.cpu()])
            with torch.no_grad():
                left = self.log_probability(found.float().to(x.device) / 255, label, 4 * self.m, noise)
        return found[int(left.argmin())]

    def log_probability(self, x: Tensor, label: int, m: int, noise: torch.Generator) -> Tensor:
        """Estimate the logarithm of a class's expected softmax, (B,), from m noisy copies of images (B, C, H, W)."""
        noisy = NoiseMixture((self.sigma,)).add(x.repeat_interleave(m, 0), noise)
        logits = self.smoothed.model(normalize(noisy, self.smoothed.mean, self.smoothed.std))
        return torch.as_tensor(logits.log_softmax(1)[:, label].view(len(x), m).logsumexp(1) - math.log(m))


def direction(change: Tensor) -> Tensor:
    """Scale each change (B, C, H, W) to an l2 norm of 1."""
    scaled: Tensor = change / change.flatten(1).norm(dim=1).clamp_min(1e-30).view(-1, 1, 1, 1)
    return scaled


def project(change: Tensor, x: Tensor, budget: float) -> Tensor:
    """Bring changes (B, C, H, W) of an image (C, H, W) into the ball of the budget, and the changed image into [0, 1].

    The box comes second: it only shortens changes, as the image itself lies in it.
    """
    change = torch.where(change.flatten(1).norm(dim=1).view(-1, 1, 1, 1) > budget, budget * direction(change), change)
    return (x + change).clamp(0, 1) - x


def most(radius: float) -> Fraction:
    """Give the sum of squared 8-bit differences that is an l2 distance in [0, 1]-pixel units, exactly."""
    return (255 * Fraction(radius)) ** 2


def round_within(change: Tensor, pixels: Tensor, budget: float) -> Tensor:
    """Round a changed image to 8 bits such that it stays within the budget.

    Each pixel takes its nearest step. Then those that were rounded away from the image the furthest go back one step,
    as few as bring the whole image into the ball.

    Args:
        change: A change within the budget, float (C, H, W), [0, 1]-pixel units.
        pixels: The image, int64 (C, H, W) in 0..255.
        budget: l2 radius of the ball, [0, 1]-pixel units.

    Returns:
        The changed image, int64 (C, H, W) in 0..255.
    """
    wanted, start = 255 * change.double().flatten(), pixels.flatten()
    steps = (start + wanted.round().long()).clamp(0, 255) - start
    excess = int(steps.square().sum()) - math.floor(most(budget))
    if excess > 0:
        back = (steps.abs() - wanted.abs()).argsort(descending=True)
        saved = (2 * steps[back].abs() - 1).clamp_min(0).cumsum(0)
        back = back[: int((saved < excess).sum()) + 1]
        steps[back] -= steps[back].sign()
    return (start + steps).view_as(pixels)


def attack_image(attack: Attack, data: ImageData, index: int, budgets: Sequence[float], n: int, seed: int) -> list[Row]:
    """Certify an image and attack it with each budget, the smallest first; an image found counts for all further ones.

    Returns:
        A row a budget, the first one of budget 0 for the image as it is.
    """
    smoothed, sigma, radii = attack.smoothed, attack.sigma, (0.0, *budgets)
    pixels, label = data.batch([index])[0][0].long(), int(data.labels[index])
    certificate = smoothed.certify(pixels.float() / 255, sigma, n=n, alpha=ALPHA, radii=radii, seed=seed, index=index)
    certified = {"index": index, "label": label, "certified": certificate.prediction, "radius": certificate.radius}
    noise = torch.Generator(smoothed.device).manual_seed(1_000_003 * seed + index)
    found, prediction, rows = pixels, certificate.prediction, []
    for k, budget in enumerate(radii):
        if k and prediction in (label, ABSTAIN):
            found = attack.search(pixels, label, budget, noise, found)
            # Another seed for each budget: what the judge sees is fresh.
            prediction = smoothed.predict(found.float() / 255, sigma, n=JUDGE, alpha=ALPHA, seed=seed + k, index=index)
        distance2 = int((found - pixels).square().sum())
        assert distance2 <= most(budget)
        result = {"success": prediction not in (label, ABSTAIN), "distance2": distance2, "prediction": prediction}
        rows.append({**certified, "budget": budget, **result})
    return rows


def violations(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Give the rows whose image lies within its certified radius and yet is predicted as another class."""
    others = [row for row in rows if row["prediction"] not in (row["certified"], ABSTAIN)]
    return [row for row in others if row["distance2"] < most(row["radius"])]


def bounds(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, Proportion, Proportion]]:
    """Bound robust accuracy at each budget: certified accuracy from below, accuracy under attack from above.

    An abstention is no certificate and no successful attack.

    Args:
        rows: Those of `attack_image`, of all images.

    Returns:
        Budget, [0, 1]-pixel units, with the two accuracies, the smallest budget first.
    """
    found = []
    for budget in sorted({row["budget"] for row in rows}):
        here = [row for row in rows if row["budget"] == budget]
        certified = sum(row["certified"] == row["label"] and row["radius"] >= budget for row in here)
        standing = sum(not row["success"] for row in here)
        found.append((budget, proportion(certified, len(here)), proportion(standing, len(here))))
    return found


@click.command()
@click.option("--model", help="Checkpoint fine-tuned on the data; by default one clean epoch makes one.")
@click.option("--data", default="digits", show_default=True, help="Image folder, Hub id of datasets, or digits.")
@click.option("--sigma", default=0.25, show_default=True, help="Standard deviation of the noise.")
@click.option("--budgets", default="0.25,0.75", show_default=True, help="l2 distances, pixels in [0, 1].")
@click.option("--images", default=5, show_default=True, help="Test images to certify and attack.")
@click.option("--n", default=1000, show_default=True, help="Most noisy copies of an image for its certificate.")
@click.option("--steps", default=10, show_default=True, help="Gradient steps from each start.")
@click.option("--seed", default=0, show_default=True, help="Seed of all noise.")
@click.option("--device", default="cpu", show_default=True, help="Where the network runs.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON lines to write, and to go on from.")
def main(model: str | None, data: str, images: int, n: int, seed: int, out: Path | None, **how: Any) -> None:
    """Certify test images and attack them; fail if an attack succeeds within a certified radius."""
    network = load(model, data).to(how["device"]).to(memory_format=torch.channels_last)
    test = robust_hub.load_data(data, split="test")
    attack = Attack(SmoothedClassifier(network), how["sigma"], how["steps"])
    budgets, every = sorted(float(word) for word in how["budgets"].split(",")), max(1, len(test) // images)
    settings: Row = {"model": model, "weights": weights_hash(network), "device": how["device"], "seed": seed}
    settings |= {"data": test.name, "data_hash": test.data_hash, "every": every, "sigma": attack.sigma, "n": n}
    settings |= {"alpha": ALPHA, "judge": JUDGE, "budgets": budgets, "noise": make_noise("lattice", attack.sigma).name}
    settings |= {"steps": attack.steps, "restarts": attack.restarts, "m": attack.m}
    test = match(attack.smoothed, test).renumber(test)  # the network's classes, by name
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out and out.exists() else []
    if lines and {key: lines[0].get(key) for key in settings} != settings:
        raise click.UsageError(f"{out} holds attacks with other settings: name another file")
    lines = lines or [{**settings, "versions": versions(), "commit": commit()}]
    done = {row["index"] for row in lines[1:]}
    for index in [i for i in range(0, len(test), every)[:images] if i not in done]:
        lines += attack_image(attack, test, index, budgets, n, seed)
        if out:
            replace_text(out, "".join(json.dumps(line) + "\n" for line in lines))
    for budget, low, high in bounds(lines[1:]):
        click.echo(f"radius {budget:g}: certified {low.percent} %, under attack {high.percent} % of {low.n} images")
    wrong = violations(lines[1:])
    click.echo(f"violations: {len(wrong)} attacks succeeded within a certified radius")
    raise SystemExit(1 if wrong else 0)


def load(model: str | None, data: str) -> nn.Module:
    """Give the checkpoint, or the small pretrained one after one clean epoch, which gives it the data's classes."""
    if model is not None:
        return robust_hub.load_model(model)
    network = robust_hub.load_model("resnet18s_ln_mixednoise")
    train = robust_hub.load_data(data, split="train")
    return robust_hub.finetune_clean(network, train, learning_rate=0.03, batch_size=64).model


if __name__ == "__main__":
    main()
