"""What the page shows: no more than a certificate says, and nothing from outside as HTML."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import torch

from robust_hub.app import fragments
from robust_hub.app.networks import Choice
from robust_hub.app.upload import Prepared
from robust_hub.app.work import Copies, Counted
from robust_hub.guarantee.certificate import Certificate, certify_counts
from robust_hub.guarantee.words import meaning

NAMES = ("cat", "<script>alert(1)</script>", "fish")
CHOICE = Choice("toy", Path("toy"), 3, 32, 3, True, "pretrained on toys, 1 epoch", (0.25, 0.5))


def certified(sigma: float = 0.25, count: int = 990) -> Certificate:
    return certify_counts([98, 2, 0], [count, 1000 - count, 0], sigma=sigma)


def name(k: int) -> str:
    return NAMES[k]


def text(html: str) -> str:
    return re.sub(r"<[^>]+>", " ", html)


def test_names_are_never_html() -> None:
    abstained, other = certified(count=500), certify_counts([0, 9, 1], [0, 990, 10], sigma=0.25)
    title = "<img src=x onerror=alert(1)>.png"
    copies = Copies(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), (0, 1))
    for html in (
        *(fragments.verdict(one, NAMES) for one in (abstained, other)),
        fragments.votes(other, name),
        fragments.radii([other], 0.25, NAMES),
        fragments.noisy(copies, name, 0.25, voted=True),
        fragments.seen(Prepared(title, torch.zeros(3, 4, 4, dtype=torch.uint8)), NAMES[1]),
        fragments.trained(CHOICE, NAMES, 0.25),
        fragments.failure(title),
        fragments.check(title, "certificate.json", "image.png"),
    ):
        assert "<script" not in html and "<img src=x" not in html


def test_a_radius_is_shown_cut_and_with_the_meaning_of_the_words_room() -> None:
    one = certified()
    html = fragments.verdict(one, ("cat", "dog", "fish"))
    assert f'data-radius="{one.radius!r}"' in html
    shown = float(re.search(r'id="radius">([\d.]+)<', html)[1])  # type: ignore[index]
    assert 0 <= one.radius - shown < 0.001
    assert meaning(one, ("cat", "dog", "fish")).split('"')[0] in text(html)
    assert "No network gets more than about 0.615 from 1,000 samples at this sigma." in html


def test_an_abstention_shows_no_radius() -> None:
    html = fragments.verdict(certified(count=500), ("cat", "dog", "fish"))
    assert "No answer" in html and 'id="radius"' not in html and "data-radius" not in html


def test_more_samples_are_promised_nothing_but_a_chance() -> None:
    said = text(fragments.verdict(certified(count=1000), ("cat", "dog", "fish")))
    assert "more samples can give a larger radius" in said
    assert "more samples can" not in text(fragments.verdict(certified(), ("cat", "dog", "fish")))


def test_votes_sum_to_all_samples() -> None:
    counts = [300, 200, 150, 120, 90, 60, 50, 30]
    one = certify_counts([9, *[0] * 7], counts, sigma=0.25)
    rows = re.findall(r'rh-count">([\d,]+)<', fragments.votes(one, lambda k: f"class {k}"))
    assert [int(row) for row in rows] == [*counts[:6], 80] and sum(counts) == 1000


def test_radii_say_what_holds_together() -> None:
    several = [certified(0.5), certified(0.25), certified(1.0, 500)]
    said = text(fragments.radii(several, 0.5, ("cat", "dog", "fish")))
    assert "All 3 are true at once with 99.7 % confidence" in said and "no answer" in said
    assert "the largest of them is not one for all" in said
    assert said.index("0.25") < said.index("0.5 ") < said.index("no answer")
    alone = text(fragments.radii(several[:1], 0.5, ("cat", "dog", "fish")))
    assert "at once" not in alone and "largest of them" not in alone and "Radius at this sigma" in alone
    html = fragments.radii(several, 0.5, ("cat", "dog", "fish"))
    assert max(float(width) for width in re.findall(r"width:([\d.]+)%", html)) <= 100


def test_a_note_where_the_network_did_not_see_the_noise() -> None:
    assert 'id="unseen"' not in fragments.trained(CHOICE, None, 0.25)
    assert "trained on noise of sigma 0.25 and 0.5, not 0.3" in fragments.trained(CHOICE, None, 0.3)
    assert "trained without noise. A certificate is as true" in fragments.trained(replace(CHOICE, sigmas=()), None, 0.3)
    assert 'id="unseen"' not in fragments.trained(replace(CHOICE, sigmas=None), None, 0.3)
    assert "Trained on My Photos." in fragments.trained(replace(CHOICE, trained="trained on My Photos"), None, 0.3)


def test_progress_is_text_too() -> None:
    html = fragments.progress(Counted(1024, 5500))
    assert "1,024 of 5,500 noisy copies classified" in text(html) and 'max="5500" value="1024"' in html
    assert "nothing is certified" in fragments.halted(Counted(1024, 5500), 0)
    assert "what is there stays" in fragments.halted(Counted(1024, 5500), 1)
