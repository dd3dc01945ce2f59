"""The queue: samples go out and votes come back in order, and a course is sent just what it asked for."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import torch
from torch import Tensor

from robust_hub.certification.queue import Chunk, Job, fill
from robust_hub.guarantee.look import ESTIMATION, SELECTION, Course, Look, Votes
from robust_hub.images.noise import BLOCK

SHAPE = (1, 1, 1)


def two_looks() -> Course[list[list[int]]]:
    """Ask for 5 samples of one stream beside 64 of another, then for 96 of the latter; give the votes."""
    first = yield Look(SELECTION, 5, 5), Look(ESTIMATION, 64, 96)
    second = yield (Look(ESTIMATION, 96, 96),)
    return [votes.tolist() for votes in (*first, *second)]


class Drawn:
    """Blocks whose sample k is k, and a list of those that were asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def __call__(self, purpose: str, k: int) -> Future[Tensor]:
        self.asked.append((purpose, k))
        drawn: Future[Tensor] = Future()
        drawn.set_result(torch.arange(k * BLOCK, (k + 1) * BLOCK).view(BLOCK, *SHAPE).float())
        return drawn


def job(index: int = 0) -> tuple[Job[list[list[int]]], Drawn]:
    drawn = Drawn()
    return Job(index, torch.zeros(SHAPE), two_looks(), drawn), drawn


def votes_of(chunk: Chunk) -> Votes:
    """Every third sample votes for class 0, the others for class 1."""
    third = int((chunk.noise.flatten().remainder(3) == 0).sum())
    return np.array([third, chunk.size - third])


def spans(chunks: list[Chunk]) -> list[tuple[int, str, int, int]]:
    return [(chunk.job.index, chunk.purpose, chunk.start, chunk.size) for chunk in chunks]


def test_a_course_is_sent_the_votes_of_what_it_asked_for_however_batches_are_cut() -> None:
    for room in (1, 7, 32, 50, 1000):
        one, drawn = job()
        while not one.done:
            chunks = fill([one], room, ahead=True)
            assert 0 < sum(chunk.size for chunk in chunks) <= room
            for chunk in chunks:
                one.count(chunk, votes_of(chunk))
        assert one.result == [[2, 3], [22, 42], [32, 64]]
        assert drawn.asked == [(SELECTION, 0), (ESTIMATION, 0), (ESTIMATION, 1), (ESTIMATION, 2)]
        assert fill([one], room, ahead=True) == []


def test_a_chunk_has_the_noise_of_its_samples() -> None:
    one, _ = job()
    chunks = fill([one], 1000, ahead=True)
    assert spans(chunks) == [(0, SELECTION, 0, 5), *((0, ESTIMATION, start, 32) for start in (0, 32, 64))]
    one, _ = job()
    cut = [chunk for _ in range(3) for chunk in fill([one], 20, ahead=False)]
    assert [int(chunk.noise[0]) for chunk in cut] == [chunk.start for chunk in cut]
    assert spans(cut)[:3] == [(0, SELECTION, 0, 5), (0, ESTIMATION, 0, 15), (0, ESTIMATION, 15, 17)]


def test_samples_that_are_wanted_come_before_those_that_may_be() -> None:
    jobs = [job(index)[0] for index in range(2)]
    assert sum(chunk.size for chunk in fill(jobs, 1000, ahead=False)) == 2 * 69
    jobs = [job(index)[0] for index in range(2)]
    chunks = fill(jobs, 1000, ahead=True)
    assert [index for index, *_ in spans(chunks)] == [0, 0, 0, 1, 1, 1, 0, 1]
    assert spans(chunks)[-2:] == [(0, ESTIMATION, 64, 32), (1, ESTIMATION, 64, 32)]
    assert sum(chunk.size for chunk in chunks) == 2 * 101
