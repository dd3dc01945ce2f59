"""The attack of the examples, on classifiers whose true radius is known, and the page that is made of its record."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from robust_hub import ABSTAIN, ImageData, SmoothedClassifier

TOOLS = Path(__file__).parents[1] / "tools"
pytestmark = pytest.mark.skipif(not TOOLS.exists(), reason="examples and tools are not part of this copy")

if TOOLS.exists():
    import make_attack
    from attack import Attack, attack_image, bounds, most, round_within, violations

SIGMA, SIZE = 0.25, 6


class Linear(nn.Module):
    """Class 1 where the pixels lie beyond a plane, else class 0: smoothing leaves it as it is."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(3 * SIZE * SIZE, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        margin = (x.flatten(1) - 0.5) @ self.weight
        return torch.stack([-margin, margin], 1)

    def distance(self, pixels: torch.Tensor) -> float:
        """The distance of an 8-bit image to the plane, negative on the side of class 0."""
        weight = self.weight.detach().double()
        return float((pixels.flatten().double() / 255 - 0.5) @ weight / weight.norm())


def setting(seed: int) -> tuple[Linear, SmoothedClassifier, torch.Tensor]:
    """A linear classifier and an image of class 1, about 0.5 from the plane and as far from black and white."""
    model = Linear(seed)
    weight = model.weight.detach().view(3, SIZE, SIZE)
    pixels = (127.5 + 255 * 0.5 * weight / weight.norm()).round().long()
    return model, SmoothedClassifier(model, mean=(0, 0, 0), std=(1, 1, 1)), pixels


@pytest.mark.parametrize("seed", range(5))
def test_an_attack_succeeds_just_beyond_the_true_radius_and_never_within_it(seed):
    model, smoothed, pixels = setting(seed)
    true = model.distance(pixels)
    assert 0.45 < true < 0.55
    noise = torch.Generator().manual_seed(seed)
    attack = Attack(smoothed, SIGMA)
    found = {share: attack.search(pixels, 1, share * true, noise, pixels) for share in (0.97, 1.03, 1.2)}
    for share, image in found.items():
        assert int((image - pixels).square().sum()) <= most(share * true) and 0 <= image.min() <= image.max() <= 255
        assert (model.distance(image) < 0) == (share > 1)
        assert abs(model.distance(image) - (1 - share) * true) < 0.01  # as good as an attack can be
    predict = {share: smoothed.predict(image.float() / 255, SIGMA, n=10_000, seed=1) for share, image in found.items()}
    assert predict[0.97] in (1, ABSTAIN) and predict[1.2] == 0


def test_rows_of_an_image_agree_with_its_true_radius():
    model, smoothed, pixels = setting(7)
    true = model.distance(pixels)
    data = ImageData(pixels[None].byte(), torch.tensor([1]), ("below", "beyond"), name="plane", split="test")
    budgets = [share * true for share in (0.3, 0.9, 1.3, 1.6)]
    rows = attack_image(Attack(smoothed, SIGMA, restarts=1), data, 0, budgets, 2000, 0)
    assert [row["budget"] for row in rows] == [0.0, *budgets]
    assert {row["certified"] for row in rows} == {1} and rows[0]["radius"] in budgets[:2]
    assert [row["success"] for row in rows] == [False, False, False, True, True]
    assert rows[0]["distance2"] == 0 and rows[3] == {**rows[4], "budget": budgets[2]}  # found once, counted for both
    assert violations(rows) == []
    (_, certified, standing), *_, (_, none, broken) = bounds(rows)
    assert (certified.value, standing.value, none.value, broken.value) == (1, 1, 0, 0)


def test_a_misclassified_image_is_broken_without_a_search_and_an_abstention_is_not():
    _, smoothed, pixels = setting(3)
    wrong = ImageData(pixels[None].byte(), torch.tensor([0]), ("below", "beyond"), name="plane", split="test")
    rows = attack_image(Attack(smoothed, SIGMA), wrong, 0, [0.1], 500, 0)
    assert [(row["success"], row["distance2"], row["prediction"]) for row in rows] == [(True, 0, 1)] * 2
    unsure = [{**row, "certified": ABSTAIN, "radius": 0.0, "success": False, "prediction": ABSTAIN} for row in rows]
    assert [(low.value, high.value) for _, low, high in bounds(unsure)] == [(0, 1), (0, 1)]
    assert violations(rows) == violations(unsure) == []


def test_rounding_is_to_the_nearest_8_bit_image_where_it_fits_and_never_beyond_the_ball():
    generator = torch.Generator().manual_seed(0)
    for budget in (0.01, 0.1, 0.5, 2.0):
        pixels = torch.randint(0, 256, (3, SIZE, SIZE), generator=generator)
        change = torch.randn(pixels.shape, generator=generator)
        change = change * (budget / change.norm())
        change = (pixels / 255 + change).clamp(0, 1) - pixels / 255
        rounded = round_within(change, pixels, budget)
        assert 0 <= rounded.min() <= rounded.max() <= 255 and rounded.dtype == torch.int64
        assert int((rounded - pixels).square().sum()) <= most(budget)
        assert ((rounded - pixels).double() - 255 * change.double()).abs().max() <= 1 + 1e-6
        nearest = (pixels + 255 * change.double()).round().long()
        assert torch.equal(round_within(change, pixels, 2 * budget + 1), nearest)
    change = torch.tensor([1.4, 2.6, -0.55]).view(3, 1, 1) / 255  # nearest: 1, 3, -1 of squares 1 + 9 + 1
    for most_of_squares, steps in ((11, [1, 3, -1]), (10, [1, 3, 0]), (9, [1, 2, 0])):
        rounded = round_within(change, torch.full((3, 1, 1), 9), math.sqrt(most_of_squares + 0.01) / 255)
        assert (rounded.flatten() - 9).tolist() == steps


def test_the_figure_shows_both_bounds_with_their_intervals(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, out: drawn.append(figure))
    _, rows = make_attack.read(make_attack.RECORD)
    make_attack.draw(rows, tmp_path / "figure.png")
    (axes,) = drawn[0].axes
    lines = {container.get_label().split(",")[0]: container.lines[0] for container in axes.containers}
    for name, side in (("certified", 1), ("under attack", 2)):
        shown = dict(zip(*(values.tolist() for values in lines[name].get_data()), strict=True))
        assert shown == pytest.approx({found[0]: 100 * found[side].value for found in bounds(rows)})


def test_the_record_holds_what_the_page_says():
    settings, rows = make_attack.read(make_attack.RECORD)
    images = {row["index"] for row in rows}
    assert len(rows) == len(images) * (1 + len(settings["budgets"]))
    assert violations(rows) == []
    for row in rows:
        assert row["distance2"] <= most(row["budget"])
        assert row["success"] == (row["prediction"] not in (row["label"], ABSTAIN))
    found = bounds(rows)
    assert all(low.value <= high.value for _, low, high in found)
    for side in (1, 2):
        assert [pair[side].value for pair in found] == sorted((pair[side].value for pair in found), reverse=True)
