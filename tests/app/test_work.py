"""The work behind the page: certificates are those of `certify`, progress is true, a stop stops."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from robust_hub.app.work import ALPHA, COPIES, Counted, Job, StoppedError, beside, show_copies
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.guarantee.certificate import Certificate
from robust_hub.guarantee.look import ESTIMATION
from robust_hub.images.laws import make_noise
from robust_hub.images.noise import noisy_copies
from robust_hub.models.classes import note_class_names


def smoothed(module: nn.Module | None = None) -> SmoothedClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = module or nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
    note_class_names(model, ("cat", "dog", "fish"))
    return SmoothedClassifier(model, mean=0.5, std=0.25)


def image() -> Tensor:
    return torch.randint(0, 256, (3, 8, 8), generator=torch.Generator().manual_seed(3)) / 255


class Gate(nn.Module):
    """A network that waits, from its second batch of votes on, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(192, 3)
        self.open = threading.Event()
        self.open.set()

    def forward(self, x: Tensor) -> Tensor:
        assert self.open.wait(30)
        return self.linear(x.flatten(1))


def test_the_certificates_are_those_of_certify_and_every_sample_is_told() -> None:
    steps = list(Job(smoothed(), image(), (0.5, 0.25), 400, seed=7).steps())
    made = [step for step in steps if isinstance(step, Certificate)]
    expected = [smoothed().certify(image(), sigma, n=400, alpha=ALPHA, seed=7) for sigma in (0.5, 0.25)]
    assert made == expected
    names = ("cat", "dog", "fish")
    assert [c.class_name for c in made] == [None if c.abstained else names[c.prediction] for c in made]
    assert made[0].origin == expected[0].origin


def test_the_count_at_the_end_is_that_of_all_samples() -> None:
    job = Job(smoothed(), image(), (0.25, 0.5, 1.0), 300)
    made = [step for step in job.steps() if isinstance(step, Certificate)]
    assert job.far == Counted(3 * 400, 3 * 400) and job.made == 3
    assert all(not one.reproduction and one.seed is not None for one in made)
    assert len({one.seed for one in made}) == 3
    job.wait()
    assert not job.running


def test_a_stop_ends_it_at_a_batch_and_says_so() -> None:
    gate = Gate()
    job = Job(smoothed(gate), image(), (0.25, 0.5), 10_000)
    steps = job.steps()
    next(steps)
    gate.open.clear()
    job.stop()
    gate.open.set()
    with pytest.raises(StoppedError):
        list(steps)
    job.wait()
    assert not job.running and 0 <= job.far.counted < job.far.total and job.made < 2


def test_whoever_stops_listening_stops_it() -> None:
    job = Job(smoothed(), image(), (0.25,), 10_000)
    steps = job.steps()
    next(steps)
    steps.close()
    job.wait()
    assert not job.running


def test_an_error_of_the_network_reaches_whoever_listens() -> None:
    broken = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    nn.init.constant_(broken[1].bias, float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        list(Job(smoothed(broken), image(), (0.25,), 100).steps())


@pytest.mark.parametrize(
    ("sigmas", "n", "words"),
    [
        ((0.25,), 99, "expected 100 to 10,000 samples, got 99"),
        ((0.25,), 10_001, "got 10,001"),
        ((0.25, 2.0), 100, "expected a sigma from 0.05 to 1.5, got 2"),
        ((float("nan"),), 100, "got nan"),
    ],
)
def test_what_a_page_does_not_offer_is_refused_before_a_sample(sigmas: tuple[float, ...], n: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Job(smoothed(), image(), sigmas, n)


def test_two_at_once_on_one_network_disturb_neither() -> None:
    shared = smoothed()
    jobs = [Job(shared, image(), (sigma,), 2000, seed=seed) for sigma, seed in ((0.25, 1), (0.5, 2))]
    made: dict[int, Certificate] = {}

    def listen(k: int) -> None:
        made[k] = next(step for step in jobs[k].steps() if isinstance(step, Certificate))

    threads = [threading.Thread(target=listen, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = [smoothed().certify(image(), sigma, n=2000, seed=seed) for sigma, seed in ((0.25, 1), (0.5, 2))]
    assert [made[k].counts for k in range(2)] == [one.counts for one in alone]


def test_the_copies_shown_are_the_first_that_voted() -> None:
    shown = show_copies(smoothed(), image(), 0.5, seed=11)
    copies = noisy_copies(image(), make_noise("lattice", 0.5), 11, 0, COPIES, ESTIMATION)
    assert torch.equal(shown.pixels, (copies.clamp(0, 1) * 255).round().to(torch.uint8))
    answers = []
    for k in range(COPIES):
        one = smoothed().certify(image(), 0.5, n0=1, n=k + 1, alpha=0.9, seed=11)
        answers.append(one.counts)
    votes = [tuple(int(answer == k) for k in range(3)) for answer in shown.answers]
    assert answers == [tuple(map(sum, zip(*votes[: k + 1], strict=True))) for k in range(COPIES)]


def test_the_chosen_sigma_comes_first_and_once() -> None:
    assert beside(0.3) == (0.3, 0.12, 0.25, 0.5, 0.75, 1.0)
    assert beside(1.0) == (1.0, 0.12, 0.25, 0.5, 0.75)
