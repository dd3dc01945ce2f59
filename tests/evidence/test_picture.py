"""The picture of one certificate: what is drawn is what the certificate says."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robust_hub.evidence.picture import _draw, draw_certificate, plot_certificate, telling
from robust_hub.guarantee.certificate import Certificate, certify_counts
from robust_hub.guarantee.reach import largest_radius
from robust_hub.guarantee.sequential import sequential_plan

pytest.importorskip("matplotlib")
NAMES = ("cat", "dog", "emu", "fox", "gnu", "hen", "ibis")


def certificate(counts: list[int], sigma: float = 0.25, bound: str = "complement") -> Certificate:
    return replace(certify_counts(counts, counts, sigma, bound=bound), noise="lattice255")


MOST = certificate([3, 960, 20, 9, 5, 2, 1])
NONE = certificate([480, 510, 10, 0, 0, 0, 0], 0.5)


def drawn(certificates: list[Certificate], classes: Any = NAMES, channels: int = 3, size: int = 8, chosen: int = 0):
    """Axes and texts of the figure: images, votes, radii, and all words below."""
    image = np.full((channels, size, size), 0.5)
    figure = _draw(image, [np.stack([image + 3] * 3)] * len(certificates), certificates, classes, chosen)
    figure.draw_without_rendering()
    pictures, votes, radii, _ = (part.axes for part in figure.subfigs)
    return figure, pictures, votes[0], radii[0], " ".join(figure.subfigs[3].texts[0].get_text().split())


def test_votes_are_drawn_with_names_and_counts_the_most_voted_first() -> None:
    figure, pictures, votes, _, words = drawn([MOST])
    assert [bar.get_width() for bar in votes.patches] == [960, 20, 9, 5, 3]
    assert [tick.get_text() for tick in votes.get_yticklabels()] == ["dog", "emu", "fox", "gnu", "cat"]
    assert [text.get_text() for text in votes.texts] == ["960", "20", "9", "5", "3"]
    assert "(top 5 of 7 classes)" in figure.subfigs[1]._suptitle.get_text()
    assert len(pictures) == 4 and [one.get_title() for one in pictures[:2]] == ["the image", "sigma 0.25"]
    shown = np.stack([one.get_images()[0].get_array() for one in pictures])
    assert (shown.min(), shown.max()) == (0.5, 1.0)  # the noisy copies, 3.5, are clipped
    assert figure._suptitle.get_text() == "dog, radius 0.382  (sigma 0.25)"
    assert words.startswith('With 99.9 % confidence over the noise drawn, the answer at sigma 0.25 is "dog"')
    assert "192 pixels" not in words and "its 192 values" in words
    assert "Each sigma" not in words


def test_radii_stand_beside_the_limit_of_n() -> None:
    figure, pictures, _, radii, words = drawn([MOST, NONE])
    assert [bar.get_width() for bar in radii.patches] == [MOST.radius, 0]
    assert [tick.get_text() for tick in radii.get_yticklabels()] == ["sigma 0.25", "sigma 0.5"]
    assert [text.get_text() for text in radii.texts] == ["0.382", "no answer"]
    limits = [line.get_xdata()[0] for line in radii.get_lines()]
    assert limits == [largest_radius(1000, 0.25), largest_radius(1000, 0.5)]
    assert figure.subfigs[2]._suptitle.get_text() == "Certified radius; dashed: limit of n = 1,000 copies"
    assert [one.get_title() for one in pictures] == ["the image", "sigma 0.25", "sigma 0.5"]
    assert "the largest of them" not in words  # one alone has an answer


def test_another_class_at_another_sigma_is_named() -> None:
    other = certificate([3, 20, 960, 9, 5, 2, 1], 0.5)
    *_, radii, words = drawn([MOST, other])
    assert [text.get_text() for text in radii.texts] == ["0.382", "0.765 emu"]
    assert radii.patches[0].get_facecolor() != radii.patches[1].get_facecolor()
    assert "the largest of them is not one for all" in words


def test_an_abstention_is_drawn_as_one() -> None:
    figure, _, votes, _, words = drawn([NONE])
    assert figure._suptitle.get_text() == "no answer  (sigma 0.5)"
    assert words.startswith("No answer, which is no error")
    assert votes.get_lines()[0].get_xdata()[0] == 500  # half
    assert len({bar.get_facecolor() for bar in votes.patches}) == 1
    assert "no vote for 4 more" in figure.subfigs[1]._suptitle.get_text()
    assert telling([NONE, MOST]) == 1 and telling([NONE, NONE]) == 0


def test_no_half_is_drawn_where_the_bound_asks_for_none() -> None:
    _, _, votes, _, _ = drawn([certificate([3, 960, 20, 9, 5, 2, 1], bound="runner_up")])
    assert len(votes.get_lines()) == 0


def test_the_limit_of_a_grid_is_what_was_tried() -> None:
    course = sequential_plan((0.25, 0.5, 0.75), n=1000).course(0.25)
    looks = next(course)
    with pytest.raises(StopIteration) as end:
        while True:
            looks = course.send([np.array([0, look.upto]) for look in looks])
    figure, _, _, radii, _ = drawn([end.value.value], ("cat", "dog"))
    assert radii.get_lines()[0].get_xdata()[0] == 0.5  # 0.75 is beyond 1,000 samples
    assert figure.subfigs[2]._suptitle.get_text() == "Certified radius; dashed: the largest that was tried"
    unsampled = replace(NONE, n=0, count=0, counts=(0,) * 7, plan="radius")
    figure, _, votes, radii, _ = drawn([unsampled])
    assert len(votes.patches) == 0 and len(radii.get_lines()) == 0
    assert figure.subfigs[2]._suptitle.get_text() == "Certified radius"


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 224), (4, 8), (2, 8)])
def test_images_of_any_channels_and_size_are_shown(channels: int, size: int) -> None:
    _, pictures, *_ = drawn([MOST], channels=channels, size=size)
    assert pictures[0].get_images()[0].get_array().shape[:2] == (size, size)


def test_long_names_and_formulas_stay_within_the_figure() -> None:
    names = [f"a name that is far too long to stand beside a bar, number {k}, for $1" for k in range(7)]
    figure, _, votes, _, words = drawn([MOST], names)
    assert all(len(tick.get_text()) <= 22 for tick in votes.get_yticklabels())
    assert names[1].replace("$", r"\$") in words
    width = figure.bbox.width
    texts = [figure._suptitle, *(part._suptitle for part in figure.subfigs[1:3]), figure.subfigs[3].texts[0]]
    assert all(0 <= text.get_window_extent().x0 < text.get_window_extent().x1 <= width for text in texts)


def test_a_name_turns_no_digits_and_no_name_is_blank() -> None:
    figure, _, votes, radii, words = drawn([MOST, certificate([960, 20, 3, 9, 5, 2, 1], 0.5)], (*"\u202e ", *NAMES[2:]))
    assert next(tick.get_text() for tick in votes.get_yticklabels()) == "class 1"
    assert figure._suptitle.get_text().startswith("class 1, radius 0.382")
    texts = [text.get_text() for text in (figure._suptitle, *radii.texts, *votes.get_yticklabels())]
    assert all(text.isprintable() for text in (words, *texts))
    assert radii.texts[1].get_text().endswith("\\u202e")


def test_without_names_numbers_stand_for_them_and_the_certificates_own_name() -> None:
    _, _, votes, _, _ = drawn([replace(MOST, class_name="dog")], None)
    assert [tick.get_text() for tick in votes.get_yticklabels()][:2] == ["dog", "class 2"]


def test_what_cannot_be_drawn_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((3, 8, 8))
    for call, said in (
        ((image, [], []), "expected at least one certificate, got none"),
        ((image[0], [image[None]], [MOST]), r"expected an image of shape \(C, H, W\), got \(8, 8\)"),
        ((image, [], [MOST]), "expected noisy copies for each of 1 certificates, got 0"),
        ((image, [image], [MOST]), r"expected noisy copies of shape \(B, 3, 8, 8\), got \(3, 8, 8\)"),
    ):
        with pytest.raises(ValueError, match=said):
            draw_certificate(*call)
    with pytest.raises(ValueError, match="expected 7 names, one a class, got 1"):
        draw_certificate(image, [image[None]], [MOST], classes=("cat",))
    out = plot_certificate(image, [image[None][:0]], [MOST], tmp_path / "new" / "one")
    assert out == tmp_path / "new" / "one.png" and out.read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "robust-hub\[plot\]"'):
        draw_certificate(image, [image[None]], [MOST])
