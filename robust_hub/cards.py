"""Records -> model card: every number of a card is read from a record or from config.json.

The card is the README.md of a checkpoint's folder: prose for people, YAML metadata with a `model-index` for the Hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from robust_hub.accuracy import Accuracy, certified_accuracy, clean_accuracy, decides, grid_of
from robust_hub.config import CheckpointConfig
from robust_hub.evidence import Evidence, UnderNoise, read_evidence
from robust_hub.files import replace_text
from robust_hub.layout import CARD, PICTURE
from robust_hub.plans import RADII
from robust_hub.plots import plot_curves
from robust_hub.provenance import Provenance, summary
from robust_hub.records import Run
from robust_hub.tables import markdown_table, set_rows


@dataclass(frozen=True)
class KnownData:
    """A data set that cards have words for.

    Attributes:
        hub_id: What the Hub calls it; None if it is not there.
        title: What people call it.
        terms: The terms that its pictures come with.
        note: What to know of accuracies on its held-out images.
    """

    hub_id: str | None
    title: str
    terms: str = "see its own page"
    note: str = ""


_IMAGENET = "whose terms of access are non-commercial research and education"
DATASETS = {
    "cifar10": KnownData("uoft-cs/cifar10", "CIFAR-10", "published without a licence, for research"),
    "cifar100": KnownData("uoft-cs/cifar100", "CIFAR-100", "published without a licence, for research"),
    "tiny-imagenet-32": KnownData(
        "zh-plus/tiny-imagenet", "Tiny-ImageNet-200 at 32x32", f"a part of ImageNet, {_IMAGENET}"
    ),
    "imagenet32": KnownData(None, "ImageNet at 32x32", f"of ImageNet, {_IMAGENET}"),
    "imagenet284-64-views9": KnownData(
        None,
        "173,394 photographs of 284 ImageNet classes at 64x64 (Tiny-ImageNet-200, mini-ImageNet and imagenette, merged "
        "by WordNet id), each as nine 32x32 views",
        f"parts of ImageNet, {_IMAGENET}",
        "Tiny-ImageNet and mini-ImageNet share 25 classes, and some of the former's validation images stand among the "
        "latter's training images (six near-duplicates were found at a correlation of 0.985, a lower bound): these "
        "accuracies may be slightly high.",
    ),
    "digits": KnownData(None, "scikit-learn's digits", "CC BY 4.0"),
}
NORMS = {
    "bn": "batch norm",
    "gn": "group norm (32 groups)",
    "in": "instance norm",
    "ln": "layer norm over (C, H, W), affine per channel",
}
CITATION = """@article{qiu2023exploring,
  title = {Exploring Transferability for Randomized Smoothing},
  author = {Qiu, Kai and Zhang, Huishuai and Wu, Zhirong and Lin, Stephen},
  journal = {arXiv preprint arXiv:2312.09020},
  year = {2023}
}"""


def card(evidence: Evidence, *, base_model: str | None = None, repo_id: str | None = None) -> str:
    """Write a checkpoint's card.

    Args:
        evidence: What its folder says, see `robust_hub.evidence.read_evidence`.
        base_model: Repository of the model that it was fine-tuned from.
        repo_id: Its own repository on the Hub.

    Returns:
        The text of README.md, metadata included; the same for the same evidence.
    """
    name, config, training, runs = evidence.name, evidence.config, evidence.provenance, evidence.runs
    plain = config.plain_timm is not None
    parts = [
        f"# {name}",
        _introduction(name, config, summary(config.provenance)),
        _guarantee(runs),
        _evidence(runs),
        *_under_noise(evidence.under_noise, training, config.num_classes),
        _use(name, config, runs),
        _without_us(config, plain, repo_id or f"OWNER/{name}"),
        _training(training, config, evidence.bases),
        _limits(training, config),
        _terms(training, runs, evidence.bases),
        f"## Citation\n\n```bibtex\n{CITATION}\n```",
    ]
    metadata = _metadata(name, config, training, runs, base_model, "timm" if plain else "robust-hub").to_yaml()
    text = f"---\n{metadata}\n---\n\n" + "\n\n".join(parts) + "\n"
    return str(ModelCard(text))


def write_card(name: str, folder: str | Path, *, base_model: str | None = None, repo_id: str | None = None) -> Path:
    """Write a checkpoint's README.md and, where there are records, the picture of its curves.

    Args:
        name: Its name for timm.
        folder: Its folder.
        base_model: Repository of the model that it was fine-tuned from.
        repo_id: Its own repository on the Hub.

    Returns:
        The card's path.

    Raises:
        CheckpointError: If the folder holds no checkpoint or a damaged one.
        ImportError: If matplotlib is not installed and there are records to draw.
        ValueError: If a record is damaged.
    """
    evidence = read_evidence(name, folder)
    text = card(evidence, base_model=base_model, repo_id=repo_id)
    if evidence.runs:
        plot_curves(_labels(evidence.runs), evidence.folder / PICTURE, title=name)
    replace_text(evidence.folder / CARD, text)
    return evidence.folder / CARD


def _introduction(name: str, config: CheckpointConfig, how: str) -> str:
    size = "x".join(map(str, config.input_size or ("?",)))
    purpose = _purpose(config.provenance, config.norm)
    kind = name.split(".")[0].removesuffix(SUFFIX).split("_")[0]
    norm = NORMS.get(config.norm, "timm's own norm")
    return (
        f"A {kind} with {norm}, {size} input and {config.num_classes} classes, {how}. {purpose} Made with "
        "robust_hub, an implementation of *Exploring Transferability for Randomized Smoothing* "
        "([arXiv:2312.09020](https://arxiv.org/abs/2312.09020))."
    )


def _purpose(training: Provenance | None, norm: str) -> str:
    noisy = training is not None and training.largest_sigma > 0
    if training is not None and training.job == "finetune":
        before = training.base is not None and training.base.largest_sigma > 0
        source = "fine-tuning on noisy images, which costs accuracy on clean ones" if noisy else "pretraining"
        source = f"pretraining and {source}" if noisy and before else source
        return (
            "It is for deploying and measuring certified robustness on the data it was fine-tuned on. What robustness "
            f"it has comes from {source}."
        )
    if training is not None and not noisy:
        return "It is a baseline for comparisons: no noise taught it robustness."
    if training is not None and len(training.sigmas or ()) == 1:
        return "It is a baseline for comparisons: it saw noise of one level and no clean image."
    if norm == "bn":
        return (
            "It is a baseline for comparisons of norms: fine-tuning on clean images takes much of the robustness that "
            "noise in pretraining taught. Networks with group, instance or layer norm keep it."
        )
    return (
        "It is a start for fine-tuning on clean images of any data set: the robustness that noise in pretraining "
        "taught survives, and what comes of it can be certified by randomized smoothing."
    )


def _guarantee(runs: Sequence[Run]) -> str:
    alphas = sorted({float(run.identity["alpha"]) for run in runs})
    alpha = f"= {alphas[0]:g} in the table below" if len(alphas) == 1 else "is yours to choose"
    return (
        "**The guarantee.** With probability at least 1 - alpha over the noise that was drawn (alpha "
        f"{alpha}), the smoothed classifier gives the certified class to every image whose l2 distance from the "
        "certified one, pixels in [0, 1], is at most the certified radius."
    )


def _evidence(runs: Sequence[Run]) -> str:
    title = "## Certified accuracy"
    if not runs:
        return f"{title}\n\nNo certification records of its own: fine-tune it, then certify."
    told = []
    for run in runs:
        kept = run.identity
        data = _known(kept.get("data")).title
        told.append(
            f"- sigma {run.sigma:g}: {len(run.records)} images of {data}, {kept.get('split')} split (every "
            f"{kept.get('every')}th), {kept.get('plan', 'fixed')} plan, n = {int(kept['n']):,}, alpha = "
            f"{kept['alpha']:g}, noise seed {kept.get('seed')}, network in {kept.get('dtype')}"
        )
    table = markdown_table(_labels(runs), _radii(runs)).strip()
    picture = f"![certified accuracy over the radius]({PICTURE})"
    return "\n\n".join([title, table, "\n".join(told), picture, "The record of every image is in `certification/`."])


def _under_noise(measured: UnderNoise | None, training: Provenance, classes: int) -> list[str]:
    if measured is None:
        return []
    table = set_rows(
        [f"sigma {sigma:g}" if sigma else "clean" for sigma in measured.accuracies],
        [[accuracy.percent for accuracy in measured.accuracies.values()]],
    )
    images = next(iter(measured.accuracies.values())).n
    note = (
        f"Accuracy of the base classifier, all {classes} classes allowed, on {images:,} images of "
        f"{_known(measured.data).title}, {measured.split} split, one draw of noise an image; percent with Wilson 95 % "
        f"intervals, network in {measured.dtype}. {_known(training.data).note}"
    )
    return ["## Accuracy under noise", table.strip(), note.strip()]


def _use(name: str, config: CheckpointConfig, runs: Sequence[Run]) -> str:
    size = config.input_size or (3, 32, 32)
    types = {str(run.identity.get("dtype")) for run in runs}
    dtype = types.pop() if len(types) == 1 else "float32"
    cast, why = ("", "") if dtype == "float32" else (f".to(torch.{dtype})", f", in {dtype} as it was certified here")
    create = f'model = timm.create_model("{name}", pretrained=True)'
    load = f"import timm\nimport torch\nimport robust_hub  # registers the models\n\n{create}"
    certify = (
        f"image = torch.rand{size}  # yours: float (C, H, W), pixels in [0, 1]\n"
        f"smoothed = robust_hub.SmoothedClassifier(model.eval(){cast})\n"
        "certificate = smoothed.certify(image, sigma=0.25, radii=(0.25, 0.5), n=1000)\n"
        "print(certificate.prediction, certificate.radius)"
    )
    tune = (
        f"{create}\n"
        'result = robust_hub.finetune_clean(model, "digits", epochs=1)  # or a folder, a Hub id, a Dataset\n'
        "model = result.model"
    )
    jobs = [(f"Certify{why}", certify), ("Fine-tune on other data, clean images only", tune)]
    jobs = jobs if runs else [("Fine-tune on clean images", tune), ("Certify what came of it", certify)]
    blocks = [f"{title}:\n\n```python\n{code}\n```" for title, code in (("Load", load), *jobs)]
    return "\n\n".join(["## Use", *blocks])


def _without_us(config: CheckpointConfig, plain: bool, repo_id: str) -> str:
    if plain:
        return (
            f'Without robust_hub: `timm.create_model("hf-hub:{repo_id}", pretrained=True)` makes the same network, '
            "where timm compares neither hashes nor logits; `robust-hub verify` does."
        )
    unknown = "instance norm" if config.norm == "in" else f"stem `{config.stem}`"
    return f"Without robust_hub timm cannot make it: it has no {unknown}."


def _training(training: Provenance, config: CheckpointConfig, bases: Sequence[Provenance]) -> str:
    lines = ["## Training", f"Stem `{config.stem}`, norm `{config.norm}`."]
    lines += [f"It started from weights {summary(base)}." for base in bases[:1]]
    used = dict.fromkeys(str(stage.data) for stage in (training, *bases) if stage.data)
    words = [f"{Path(data).name} is {_known(data).title}" for data in used if _known(data).title != Path(data).name]
    lines += [f"{'; '.join(words)}."] if words else []
    omitted = ("history", "fingerprint", "base")
    said = {k: v for k, v in training.to_json().items() if k not in omitted and v is not None}
    if not said:
        return "\n\n".join([*lines, "No recipe was kept."])
    rows = [f"| {key.replace('_', ' ')} | {_word(value)} |" for key, value in said.items()]
    lines.append("\n".join(["| setting | value |", "|---|---|", *rows]))
    if history := training.history:
        minutes = sum(float(row.get("seconds", 0)) for row in history) / 60
        seen = f"{training.images * len(history):,} images seen in " if training.images else ""
        lines.append(
            f"Last epoch: loss {history[-1]['loss']:.3f}, training accuracy {100 * history[-1]['accuracy']:.1f} % on "
            f"the images as they were trained on; {seen}{minutes:.1f} minutes in all."
        )
    return "\n\n".join(lines)


def _limits(training: Provenance, config: CheckpointConfig) -> str:
    lines = [
        "- The certificate is about the smoothed classifier (a majority vote under noise), not one forward pass.",
        "- It covers l2 perturbations of the pixels up to the radius, not rotations, blur, other norms or larger "
        "changes. A certified prediction can be wrong: the radius says that it does not change, not that it is right.",
        "- It belongs to this very network in the floating-point type that was certified. Noise is pseudo-random and "
        "drawn in float32; the theorem is about real numbers.",
        "- Certified accuracies are of a sample of test images: mind the intervals.",
    ]
    if config.norm == "bn":
        lines.append("- Batch norm seldom keeps its robustness through clean fine-tuning: use gn, in or ln for that.")
    if training.job == "pretrain" and training.sigmas and training.largest_sigma == 0:
        lines.append("- It saw clean images alone and is a baseline: expect no certified robustness from it.")
    return "## Limits\n\n" + "\n".join(lines)


def _terms(training: Provenance, runs: Sequence[Run], bases: Sequence[Provenance]) -> str:
    used = [training.data, *(run.identity.get("data") for run in runs)]
    used += [base.data for base in bases]
    names = dict.fromkeys(str(data) for data in used if data)
    terms = "; ".join(f"{_known(data).title}: {_known(data).terms}" for data in names)
    return (
        "## Licence and data\n\nCode and weights: Apache-2.0, as far as the weights are ours to license. The pictures "
        f"they were made or measured with have terms of their own ({terms or 'not recorded'}); no picture is part of "
        "this repository."
    )


def _metadata(
    name: str,
    config: CheckpointConfig,
    training: Provenance,
    runs: Sequence[Run],
    base_model: str | None,
    library: str,
) -> ModelCardData:
    norm = config.norm
    used = [training.data, *(run.identity.get("data") for run in runs)]
    hub_ids = dict.fromkeys(known for data in used if data and (known := _known(data).hub_id))
    results = [result for run in runs for result in _results(run)]
    return ModelCardData(
        license="apache-2.0",
        library_name=library,
        pipeline_tag="image-classification",
        tags=["certified-robustness", "randomized-smoothing", "timm", *([f"norm-{norm}"] if norm else [])],
        base_model=base_model,
        datasets=list(hub_ids) or None,
        metrics=["accuracy"] if results else None,
        model_name=name if results else None,
        eval_results=results or None,
    )


def _results(run: Run) -> list[EvalResult]:
    """Give a run's accuracies as the Hub's `model-index` has them, percent with their number of images."""
    known = _known(run.identity.get("data"))
    found: list[tuple[str, str, Share, dict[str, Any]]] = []
    if (clean := clean_accuracy(run.records)) is not None:
        found.append(("accuracy", "clean accuracy of the base classifier", clean, {}))
    for radius in _radii([run]):
        label = f"certified accuracy, sigma {run.sigma:g}, radius {radius:g}"
        args = {"sigma": run.sigma, "radius": radius, "norm": "l2", "alpha": float(run.identity["alpha"])}
        found.append(("certified_accuracy", label, certified_accuracy(run.records, radius), args))
    return [
        EvalResult(
            task_type="image-classification",
            dataset_type=known.hub_id or known.title,
            dataset_name=known.title,
            dataset_split=str(run.identity.get("split")),
            metric_type=kind,
            metric_name=label,
            metric_value=_percent(share.value),
            metric_args={**args, "images": share.n, "interval95": [_percent(share.low), _percent(share.high)]},
        )
        for kind, label, share, args in found
    ]


def _labels(runs: Sequence[Run]) -> dict[str, Any]:
    """Label runs by sigma, and by data where there are several."""
    several = len({run.identity.get("data") for run in runs}) > 1
    data = [f"{_known(run.identity.get('data')).title}, " if several else "" for run in runs]
    return {f"{name}sigma = {run.sigma:g}": run.records for name, run in zip(data, runs, strict=True)}


def _radii(runs: Sequence[Run]) -> tuple[float, ...]:
    """Give the radii that all runs decided, 0 aside; the paper's where every radius is known."""
    grids = [grid for run in runs if (grid := grid_of(run.records)) is not None]
    asked = RADII if not grids else tuple(radius for radius in grids[0] if radius)
    return tuple(radius for radius in asked if all(decides(run.records, radius) for run in runs))


def _known(data: Any) -> KnownData:
    """Give what is known of a data set by its name, or its folder's."""
    name = Path(str(data)).name
    return DATASETS.get(name, KnownData(None, name))


def _percent(share: float) -> float:
    return round(100 * share, 2)


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_word(one)}" for key, one in value.items())
    return ", ".join(map(_word, value)) if isinstance(value, (list, tuple)) else str(value)
