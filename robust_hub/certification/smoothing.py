"""Images -> votes -> certificates.

A `SmoothedClassifier` is the door between raw pixels and certificates: it checks, once, what it is given, and leaves
noise, normalisation and batches to its `Sampler`. It never sees a label.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn

from robust_hub.bars import tqdm
from robust_hub.certification.inputs import check_each, check_images, check_indices
from robust_hub.certification.origin import Origins
from robust_hub.certification.sampler import Progress, Sampler
from robust_hub.certification.stamp import Stamp, choose_law, choose_seed
from robust_hub.guarantee.bounds import check_alpha
from robust_hub.guarantee.certificate import ABSTAIN, Certificate, check_sigma
from robust_hub.guarantee.composite import JointCertificate, composite
from robust_hub.guarantee.fixed import two_looks
from robust_hub.guarantee.look import Course, Result
from robust_hub.guarantee.plans import Plan, PlanArguments, check_samples, fixed_plan, make_plan
from robust_hub.guarantee.prediction import check_prediction, prediction_course
from robust_hub.images.given import Picture, Pictures
from robust_hub.images.laws import Noise, NoiseChoice, make_noise
from robust_hub.images.pixels import mean_std
from robust_hub.models.calling import check_weights
from robust_hub.models.classes import class_names
from robust_hub.numbers import real_numbers

_WORTH_A_BAR = 2.0  # seconds


class SmoothedClassifier:
    """The smoothed classifier g(x) = argmax_c P[f(x + noise) = c] of a base classifier f.

    Args:
        model: Any torch module from normalised images (B, C, H, W) to logits (B, K), in any floating-point type; they
            may be the "logits" of a mapping or an object, as of transformers' classifiers. It is put in eval mode while
            votes are counted and restored afterwards. What `torch.compile` makes of one is a module too: it takes a few
            seconds to build and is certified as the function that it computes; so are exported and scripted ones.
        mean: Per-channel means, or one number for images of any count of channels; by default those of the model's
            `pretrained_cfg`, or of the network that it wraps.
        std: Per-channel standard deviations, likewise.

    Attributes:
        sampler: What counts the votes, for callers that have checked their pixels.

    Raises:
        TypeError: If model is no torch module.
        ValueError: If the model has no classifier, or neither caller nor model say mean and std.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> bright = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))  # is an image bright?
        >>> bright.load_state_dict({"2.weight": torch.tensor([[-1.0] * 3, [1.0] * 3]), "2.bias": torch.zeros(2)})
        <All keys matched successfully>
        >>> smoothed = SmoothedClassifier(bright, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

        One image, for the largest radius that n samples give, or for radii that are asked for:

        >>> x = torch.full((3, 8, 8), 230 / 255)
        >>> certificate = smoothed.certify(x, sigma=0.25, n=1000, seed=0)
        >>> certificate.prediction, certificate.count, round(certificate.radius, 3)
        (1, 1000, 0.616)
        >>> certificate = smoothed.certify(x, sigma=0.25, radii=(0.25, 0.5), seed=0)
        >>> certificate.radius, certificate.samples < 1000
        (0.5, True)

        Several images; the smoothed class without a radius; the base classifier on clean images:

        >>> images = torch.stack([1 - x, x])
        >>> [certificate.prediction for certificate in smoothed.certify_batch(images, sigma=0.25, n=100, seed=0)]
        [0, 1]
        >>> smoothed.predict(x, sigma=0.25, n=100, seed=0)
        1
        >>> smoothed.classify(images)
        tensor([0, 1])

    Source: Cohen et al. 2019.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"expected a torch module as base classifier, got {type(model).__name__}")
        if getattr(model, "num_classes", None) == 0:
            raise ValueError("this model has no classifier (num_classes=0): fine-tune it, or call reset_classifier")
        check_weights(model)
        self.sampler = Sampler(model, *mean_std(model, mean, std))
        self._origins = Origins(self.sampler)

    def __repr__(self) -> str:
        """Say it on one line."""
        names = "" if self.classes is None else f", {len(self.classes)} classes"
        model = getattr(getattr(self.model, "pretrained_cfg", None), "get", lambda _: None)("architecture")
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return f"SmoothedClassifier({model or type(self.model).__name__}{names}, mean=({mean}), std=({std}))"

    @property
    def model(self) -> nn.Module:
        """The base classifier."""
        return self.sampler.model

    @property
    def mean(self) -> tuple[float, ...]:
        """Per-channel means, [0, 1]-pixel units."""
        return self.sampler.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Per-channel standard deviations, [0, 1]-pixel units."""
        return self.sampler.std

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the model's classes, in the order of its outputs; None if it does not carry them."""
        return class_names(self.model)

    def name(self, prediction: int) -> str:
        """Say a prediction in words: the name of its class, its number if the model has no names, or "abstain"."""
        if prediction == ABSTAIN:
            return "abstain"
        return str(prediction) if self.classes is None else self.classes[prediction]

    @property
    def device(self) -> torch.device:
        """Where the model is, and so where noise is drawn and votes are counted."""
        return self.sampler.device

    @property
    def dtype(self) -> torch.dtype:
        """The model's floating-point type, part of what is certified."""
        return self.sampler.dtype

    def certify(
        self,
        x: Picture,
        sigma: float,
        *,
        n0: int | None = None,
        n: int | None = None,
        alpha: float | None = None,
        bound: str | None = None,
        radii: Sequence[float] | None = None,
        plan: Plan | None = None,
        batch_size: int | None = None,
        noise: NoiseChoice = "lattice",
        seed: int | None = None,
        index: int = 0,
        progress: Progress | None = None,
    ) -> Certificate:
        """Certify one image.

        With probability at least 1 - alpha over the noise, the smoothed classifier's class is the certificate's
        prediction for every image at an l2 distance below its radius. It is a statement about x as it is given here,
        resized, cropped and in 8 bits, and about the network in its type and with batches of this size.

        Args:
            x: The image: a PIL image, or an array of uint8 (H, W, C), (C, H, W) or (H, W) or a tensor of uint8
                (C, H, W), of the network's size (`robust_hub.prepare` brings a photograph to it); or pixels in [0, 1],
                a float tensor (C, H, W) or array. With lattice noise they are multiples of 1/255, as 8-bit images have.
            sigma: Standard deviation of the noise, [0, 1]-pixel units.
            n0: Samples that select the class; 100. Not for radii, which need none.
            n: Fresh samples that bound its probability; 100,000. With radii, the most that are drawn.
            alpha: Failure probability; 0.001.
            bound: "complement" (p_B <= 1 - p_A, the default) or "runner_up" (a bound of its own, at alpha / 2 each).
            radii: Certify the largest of these radii, [0, 1]-pixel units, and stop as soon as all are decided: the
                same table at a small part of the cost. None certifies the largest radius that n samples give.
            plan: Any other plan of `robust_hub.guarantee.plans`; it says n0, n, alpha, bound and radii itself.
            batch_size: Images a network batch, the last one padded; memory grows with it and not with n. None takes
                what suits network and device. Where memory does not hold a batch, the network takes it in parts.
            noise: "lattice" adds whole 8-bit levels, sound in floating point; "float" adds float32 noise to any
                pixels, as the paper has it, and its certificate is for networks that do not exploit float rounding.
            seed: Seed of the noise. None draws one from the operating system, after model and image are fixed; a seed
                that is given makes the certificate a reproduction, since a network may have been made for it.
            index: The image's index: equal seeds, indices and sigmas mean equal noise.
            progress: Called after each network batch with the number of samples counted in it, as a bar's `update` is;
                an exception that it raises stops the work. It is told no vote, and changes none. None shows a bar, in
                a terminal or a notebook, where it takes more than some seconds.

        Returns:
            The certificate: prediction, radius and the counts that they rest on.

        Raises:
            TypeError: If x is no image, or of other numbers than uint8 and floats.
            ValueError: If an argument is outside its range or contradicts the plan, pixels are off the noise's grid,
                the model returns NaN or no (B, K) logits, its rows interact, or it changed meanwhile.
            MemoryError: If memory does not hold one image's activations.

        Source: Cohen et al. 2019, Certify; Qiu et al. 2023, Eq. 2; with radii and lattice noise, docs/statistics.md.
        """
        x = check_images(self.sampler, x, 3, ": use certify_batch for several")
        plan = make_plan(plan, n0=n0, n=n, alpha=alpha, bound=bound, radii=radii)
        placed = check_indices([index])
        hidden = True if progress is not None or sys.stderr is None else None  # None: where there is a terminal
        with tqdm(total=plan.most, unit="sample", delay=_WORTH_A_BAR, leave=False, disable=hidden) as bar:
            told = bar.update if progress is None else progress
            return self._certify(x[None], placed, sigma, plan, batch_size, noise, seed, told)[0]

    def certify_batch(
        self,
        x: Pictures,
        sigma: float,
        *,
        plan: Plan | None = None,
        batch_size: int | None = None,
        noise: NoiseChoice = "lattice",
        seed: int | None = None,
        indices: Sequence[int] | None = None,
        **arguments: Unpack[PlanArguments],
    ) -> list[Certificate]:
        """Certify several images, network batches filled across them.

        Each certificate is what `certify` returns for the image with the same seed and index.

        Args:
            x: A list of images, each in any form that `certify` takes; or an array of uint8 (B, H, W, C) or
                (B, C, H, W), or pixels in [0, 1], float (B, C, H, W).
            sigma: Standard deviation of the noise, [0, 1]-pixel units.
            plan: Any other plan of `robust_hub.guarantee.plans`.
            batch_size: Images a network batch; None takes what suits network and device.
            noise: "lattice" or "float", as in `certify`.
            seed: Seed of the noise; None draws one, as in `certify`.
            indices: The images' indices, all different; by default 0 to B - 1.
            **arguments: n0, n, alpha, bound and radii, as in `certify`.

        Returns:
            The certificates, in the order of the images.

        Raises:
            TypeError: If x is no image, or of other numbers than uint8 and floats.
            ValueError: As in `certify`.
        """
        plan = make_plan(plan, **arguments)
        x = check_images(self.sampler, x, 4)
        indices = range(len(x)) if indices is None else check_indices(indices)
        if len(indices) != len(x) or len(set(indices)) != len(x):
            raise ValueError(f"expected {len(x)} different indices, one an image, got {list(indices)[:8]}")
        return self._certify(x, indices, sigma, plan, batch_size, noise, seed)

    def certify_each(
        self,
        images: Iterable[tuple[int, Picture]],
        sigma: float,
        plan: Plan,
        *,
        batch_size: int | None = None,
        noise: NoiseChoice = "lattice",
        seed: int | None = None,
    ) -> Iterator[tuple[int, Certificate, float]]:
        """Certify a stream of images, each certificate given as soon as its image is decided.

        Only as many images are asked for as network batches need.

        Args:
            images: Pairs of index and image, in any form that `certify` takes; all of one shape, all indices different.
            sigma: Standard deviation of the noise, [0, 1]-pixel units.
            plan: How many samples, see `robust_hub.guarantee.plans`.
            batch_size: Images a network batch; None takes what suits network and device.
            noise: "lattice" or "float", as in `certify`.
            seed: Seed of the noise; None draws one, as in `certify`.

        Yields:
            Index, certificate and seconds of an image; which one comes first depends on what they need.

        Raises:
            TypeError: If an image is none, or of other numbers than uint8 and floats.
            ValueError: As in `certify`.
        """
        law = choose_law(plan, noise, sigma)
        check_samples("batch_size", 1 if batch_size is None else batch_size)
        checked = check_each(self.sampler, images)
        first = next(checked, None)
        if first is None:
            return
        law.check_shape(first[1].shape)
        size = self._batch_size(batch_size, first[1].shape)
        stamp = self._stamp(law, first[1].shape, size, seed)
        placed = ((index, stamp.place(index, x)) for index, x in itertools.chain([first], checked))
        jobs = self.sampler.jobs(placed, partial(plan.course, law.sigma, law.tau), law, stamp.seed)
        for job in self.sampler.complete(jobs, law, size):
            yield job.index, stamp.on(job.index, job.result), job.seconds

    def certify_sigmas(
        self,
        x: Picture,
        sigmas: Sequence[float],
        *,
        n0: int = 100,
        n: int = 100_000,
        alpha: float = 0.001,
        batch_size: int | None = None,
        noise: NoiseChoice = "lattice",
        seed: int | None = None,
        index: int = 0,
    ) -> JointCertificate:
        """Certify one image under several sigmas at once.

        With probability at least 1 - alpha over the noise, the certificate of each sigma is true and so is that of the
        composite classifier, which takes for each class the sigma that speaks for it most. The largest of the radii is
        no radius of any classifier: docs/several-sigmas.md.

        Args:
            x: The image, in any form that `certify` takes.
            sigmas: Different standard deviations of the noise, [0, 1]-pixel units.
            n0: Samples of each sigma that select the class.
            n: Fresh samples of each sigma that bound probabilities.
            alpha: Failure probability of everything together.
            batch_size: Images a network batch; None takes what suits network and device.
            noise: "lattice" or "float", as in `certify`.
            seed: Seed of the noise; None draws one, as in `certify`.
            index: The image's index.

        Returns:
            The composite's certificate, with one for each sigma, increasing.

        Raises:
            TypeError: If x is no image, or of other numbers than uint8 and floats.
            ValueError: As in `certify`, or if two sigmas are equal.

        Source: docs/several-sigmas.md.
        """
        x = check_images(self.sampler, x, 3)
        (index,) = check_indices([index])
        ordered = sorted(real_numbers("different finite sigmas > 0, at least one", sigmas, above=0))
        alpha = check_alpha(alpha)
        if not ordered or len(set(ordered)) < len(ordered):
            raise ValueError(f"expected different sigmas, at least one, got {ordered}")
        plan = fixed_plan(n0, n, alpha / len(ordered), "runner_up")
        laws = [choose_law(plan, noise, sigma) for sigma in ordered]
        for law in laws:
            law.check_shape(x.shape)
        size = min(self._batch_size(batch_size, x.shape), plan.most)
        stamp = self._stamp(laws[0], x.shape, size, seed)
        votes = {}
        for law in laws:
            course = partial(two_looks, plan.n0, plan.n)
            votes[law.sigma] = self._lead(index, law.place(x.detach()), course, law, stamp.seed, size)
        joint = composite(
            {sigma: both[0] for sigma, both in votes.items()},
            {sigma: both[1] for sigma, both in votes.items()},
            alpha,
            laws[0].tau,
        )
        stamp.place(index, x)
        return replace(joint, certificates=stamp.on_all(index, joint.certificates))

    def predict(
        self,
        x: Picture,
        sigma: float,
        *,
        n: int = 1000,
        alpha: float = 0.001,
        batch_size: int | None = None,
        noise: NoiseChoice = "lattice",
        seed: int | None = None,
        index: int = 0,
    ) -> int:
        """Predict the smoothed classifier's class of one image, or abstain.

        With probability at most alpha the result is neither ABSTAIN nor the smoothed classifier's class.

        Args:
            x: The image, in any form that `certify` takes.
            sigma: Standard deviation of the noise, [0, 1]-pixel units.
            n: Samples.
            alpha: Failure probability.
            batch_size: Images a network batch; None takes what suits network and device.
            noise: "lattice" or "float", as in `certify`.
            seed: Seed of the noise; None takes the operating system's entropy.
            index: The image's index.

        Returns:
            The class, or ABSTAIN (-1).

        Raises:
            TypeError: If x is no image, or of other numbers than uint8 and floats.
            ValueError: If an argument is outside its range; n must be able to decide, 2^(1 - n) <= alpha.

        Source: Cohen et al. 2019, Predict.
        """
        n, alpha = check_prediction(n, alpha)
        (index,) = check_indices([index])
        law = make_noise(noise, check_sigma(sigma))
        x = check_images(self.sampler, x, 3)
        law.check_shape(x.shape)
        size = min(self._batch_size(batch_size, x.shape), n)
        course = partial(prediction_course, n, alpha, law.tau)
        return self._lead(index, law.place(x.detach()), course, law, choose_seed(seed), size)

    def classify(self, x: Pictures, *, batch_size: int | None = None) -> Tensor:
        """Classify clean images with the base classifier: no noise, no guarantee.

        Args:
            x: A list of images, each in any form that `certify` takes; or an array of uint8 (B, H, W, C) or
                (B, C, H, W), or pixels in [0, 1], float (B, C, H, W).
            batch_size: Images a network batch; None takes what suits network and device.

        Returns:
            Classes, int64 (B,), on the CPU.

        Raises:
            TypeError: If x is no image, or of other numbers than uint8 and floats.
            ValueError: If x has another shape, or the model returns NaN or no (B, K) logits.
        """
        x = check_images(self.sampler, x, 4)
        one = batch_size is None and len(x) == 1
        return self.sampler.classify(x, 1 if one else self._batch_size(batch_size, x.shape[1:]))

    def suited_batch_size(self, shape: Sequence[int]) -> int:
        """Say what batch size None stands for with images of a shape, (C, H, W)."""
        return self.sampler.suited_batch_size(shape)

    def _certify(
        self,
        x: Tensor,
        indices: Sequence[int],
        sigma: float,
        plan: Plan,
        batch_size: int | None,
        noise: NoiseChoice,
        seed: int | None,
        progress: Progress | None = None,
    ) -> list[Certificate]:
        """Certify images that were checked, (B, C, H, W)."""
        law = choose_law(plan, noise, sigma)
        law.check_shape(x.shape[1:])
        size = min(self._batch_size(batch_size, x.shape[1:]), len(x) * plan.most)
        stamp = self._stamp(law, x.shape[1:], size, seed)
        placed = [(index, stamp.place(index, image)) for index, image in zip(indices, x, strict=True)]
        jobs = self.sampler.jobs(placed, partial(plan.course, law.sigma, law.tau), law, stamp.seed)
        done = self.sampler.complete(jobs, law, size, progress)
        certificates = {job.index: stamp.on(job.index, job.result) for job in done}
        return [certificates[i] for i in indices]

    def _lead(
        self, index: int, x: Tensor, course: Callable[[], Course[Result]], law: Noise, seed: int, size: int
    ) -> Result:
        """Lead one placed image, (C, H, W), through a course, and give what it ends with."""
        (job,) = self.sampler.complete(self.sampler.jobs([(index, x)], course, law, seed), law, size)
        return job.result

    def _stamp(self, law: Noise, shape: Sequence[int], size: int, seed: int | None) -> Stamp:
        """Say what certificates are of, the network first: a seed that is not given is drawn after it is fixed."""
        origin = self._origins.of(shape, size)
        return Stamp(law, origin, choose_seed(seed), seed is not None, self.classes)

    def _batch_size(self, batch_size: int | None, shape: Sequence[int]) -> int:
        """Give the batch size asked for, else one that suits the network and images of a shape, (C, H, W)."""
        if batch_size is None:
            return self.sampler.suited_batch_size(shape)
        return check_samples("batch_size", batch_size)
