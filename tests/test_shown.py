"""What a notebook and a prompt show: one line each, HTML that is escaped, and a table that stays a text."""

from __future__ import annotations

import base64
import copy
import io
import os
import pickle
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from toys import PIXELS, toy_data, toy_model, toy_run

from robust_hub import Certificate, SmoothedClassifier, certified_accuracy, read_run
from robust_hub.evidence.accuracy import abstention_rate, average_certified_radius, clean_accuracy, curve, decides
from robust_hub.evidence.plots import draw_curves
from robust_hub.evidence.records import Record, Run
from robust_hub.evidence.tables import latex_table, markdown_table
from robust_hub.guarantee.certificate import certify_counts
from robust_hub.guarantee.composite import composite
from robust_hub.guarantee.plans import closed_form_plan, fixed_plan, radius_plan, sequential_plan
from robust_hub.guarantee.words import meaning
from robust_hub.images.data import ImageData
from robust_hub.images.noise import NoiseMixture
from robust_hub.images.source import Source
from robust_hub.markup import Table
from robust_hub.training.judged import Judged

EVIL = "<script>alert('x')</script>&\x1b[2J"
SHELF = Path(__file__).parents[1] / "model_cards"
RECORDS = (Record(0, 3, 3, 0.6, 1, 1.0, base=3, sigma=0.25), Record(1, 5, 5, 0.2, 1, 1.0, base=4, sigma=0.25))


class Page(HTMLParser):
    """Tags, attributes and text of HTML; refuses tags that are closed in another order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.text, self.open = "", list[str]()
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open += [] if tag == "img" else [tag]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def certificate(name: str | None = None) -> Certificate:
    return replace(certify_counts([98, *[0] * 198, 2], [990, *[0] * 198, 10], sigma=0.25), class_name=name)


def evil_data() -> ImageData:
    pixels = torch.arange(4 * 3 * 4, dtype=torch.uint8).reshape(4, 3, 2, 2)
    return ImageData(pixels, torch.tensor([0, 1, 0, 1]), (EVIL, "dog"), name=EVIL, split="train")


def evil_run() -> Run:
    return Run(RECORDS, {"noise": EVIL, "classes": [EVIL]}, Path(EVIL))


def shown() -> dict[str, Any]:
    joint = composite({0.25: [98, 2], 0.5: [90, 10]}, {0.25: [990, 10], 0.5: [900, 100]})
    named = tuple(replace(one, class_name=EVIL) for one in joint.certificates)
    trained = toy_run(None)
    return {
        "Certificate": certificate(EVIL),
        "an abstention": certify_counts([60, 40], [520, 480], sigma=0.25),
        "JointCertificate": replace(joint, certificates=named),
        "Run": evil_run(),
        "no records": Run((), {}, Path("run")),
        "ImageData": evil_data(),
        "TrainResult": replace(trained, folder=Path(EVIL), history=trained.history * 5),
        "Table": markdown_table({EVIL: RECORDS}),
    }


SHOWN = shown()


@pytest.mark.parametrize("name", SHOWN)
def test_html_is_whole_escaped_and_fetches_nothing(name: str) -> None:
    html = SHOWN[name]._repr_html_()
    page = Page(html)
    assert page.tags <= {"div", "b", "p", "table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img"}
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert "\x1b" not in html and "http" not in html and "color" not in html and "background" not in html
    assert len(html) < 20_000
    if name not in ("an abstention", "no records"):
        assert "<script>" in page.text  # said, and no tag


@pytest.mark.parametrize("name", sorted(SHOWN.keys() - {"Table"}))
def test_a_line_is_short_and_has_no_walls_of_numbers(name: str) -> None:
    line = repr(SHOWN[name])
    assert "\n" not in line and "\x1b" not in line and len(line) < 200


@pytest.mark.parametrize(("n", "limit"), [(1000, "0.616"), (1_000_000, None)])
def test_a_run_says_where_its_samples_end(n: int, limit: str | None) -> None:
    rows = tuple(replace(row, n=n, alpha=0.001, sigma=0.25) for row in RECORDS)
    page = Page(Run(rows, {"sigma": 0.25}, Path("run"))._repr_html_()).text
    assert ("A 0.0 may be for want of samples: n = " in page) == (limit is not None)
    assert limit is None or f"n = {n:,} certifies no more than about {limit}, whatever the network." in page


def test_lines_say_what_matters() -> None:
    cert = certificate("cat")
    said = "Certificate(prediction=0, class_name='cat', radius=0.494, sigma=0.25, n=1000, alpha=0.001)"
    assert repr(cert) == said and float(re.findall(r"radius=([\d.]+)", said)[0]) <= cert.radius
    assert repr(SHOWN["an abstention"]) == "Certificate(abstained, sigma=0.25, n=1000, alpha=0.001)"
    assert repr(RECORDS[0]) == "Record(idx=0, label=3, predict=3, radius=0.6, correct=1, sigma=0.25)"
    assert repr(Run(RECORDS, {}, Path("far/sigma_0.25"))) == "Run('sigma_0.25', 2 images, sigma=0.25)"
    assert repr(Run((), {}, Path("a"), finished=False)) == "Run('a', 0 images, unfinished)"
    assert repr(toy_data()) == "ImageData('toy', 'train', 72 images of 3x12x12, 3 classes)"
    assert repr(Source("pets", [1] * 999, [0] * 999, None)) == "Source('pets', 999 images)"
    joint = "JointCertificate(prediction=0, radius="
    assert repr(SHOWN["JointCertificate"]).startswith(joint) and "sigmas=(0.25, 0.5)" in repr(SHOWN["JointCertificate"])
    smoothed = SmoothedClassifier(toy_model(), **PIXELS)
    assert repr(smoothed) == "SmoothedClassifier(Sequential, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))"
    assert re.fullmatch(r"TrainResult\(Sequential, 4 epochs, loss=\S+, accuracy=\S+\)", repr(toy_run(None)))
    judged = replace(toy_run(None), judged=Judged("train-held-out", 10, 8, 5))
    assert repr(judged).endswith(", held_out=0.800, under_noise=0.500)")
    assert judged.judged is not None and judged.judged.words in Page(judged._repr_html_()).text


def test_mixtures_and_plans_are_short_as_they_are() -> None:
    plans = (fixed_plan(), sequential_plan((0.25, 0.5)), closed_form_plan((0.25,)), radius_plan(0.1))
    assert all(len(repr(one)) < 300 for one in (NoiseMixture(), *plans))


def test_certificates_stay_equal_and_whole() -> None:
    cert = certificate("cat")
    assert Certificate.from_json(cert.to_json()) == cert != replace(cert, counts=cert.counts[::-1])
    assert len(cert.to_json()) > len(repr(cert))


def test_a_certificate_says_what_it_means() -> None:
    cert = certificate("cat")
    text = Page(cert._repr_html_()).text
    assert meaning(cert) in text and "cat, radius 0.494" in text and "990 of 1,000 votes" in text
    assert "no answer" in Page(SHOWN["an abstention"]._repr_html_()).text
    joint = Page(SHOWN["JointCertificate"]._repr_html_()).text
    assert "is not its radius" in joint and "99.9 %" in joint


def test_thumbnails_are_the_images() -> None:
    data = evil_data()
    first, second = (base64.b64decode(a.split(",")[1]) for a in Page(data._repr_html_()).addresses)
    for png, index in ((first, 0), (second, 1)):
        pixels = torch.tensor(np.asarray(Image.open(io.BytesIO(png)))).permute(2, 0, 1)
        assert torch.equal(pixels, data.batch([index])[0][0])
    many = ImageData(torch.zeros(40, 1, 8, 8, dtype=torch.uint8), torch.arange(40) % 20, tuple(map(str, range(20))),
                     name="many", split="test")  # fmt: skip
    page = Page(many._repr_html_())
    assert len(page.addresses) == 10 and "10 more classes20" in page.text
    five = ImageData(torch.zeros(4, 5, 8, 8, dtype=torch.uint8), torch.arange(4) % 2, ("a", "b"), name="x", split="y")
    assert Page(five._repr_html_()).addresses == []


def test_a_run_shows_its_accuracies() -> None:
    folder = SHELF / "resnet18s_ln_mixednoise.cifar10_e5/certification/cifar10_sigma_0.25"
    if not folder.exists():
        pytest.skip("the shelf is not part of this copy")
    run = read_run(folder)
    text = Page(run._repr_html_()).text
    assert f"certified at radius 0.25{certified_accuracy(run.records, 0.25).percent} %" in text
    assert "500 images" in text and "drawn" in text


def test_accuracies_take_a_run_and_say_their_radius() -> None:
    run = Run(RECORDS, {}, Path("run"))
    for function in (clean_accuracy, abstention_rate, average_certified_radius, certified_accuracy):
        assert function(run) == function(run.records)
    assert curve(run, [0.3]).tolist() == [0.5] and decides(run, 0.5)
    assert certified_accuracy(run, 0.25).radius == 0.25 and certified_accuracy(run).radius == 0
    assert repr(certified_accuracy(run, 0.25)) == "Proportion(50.0 [9.5, 90.5] % of 2 images, certified at radius 0.25)"
    assert repr(clean_accuracy(run)) == "Proportion(50.0 [9.5, 90.5] % of 2 images)"
    for wrong in ([run], "run", 3, {"run": run}):
        with pytest.raises(TypeError, match="expected a run or its records, got .*: pass what read_run gives, one run"):
            certified_accuracy(wrong)  # type: ignore[arg-type]


def test_one_run_is_a_table_and_a_curve_too() -> None:
    run = Run(RECORDS, {}, Path("run"))
    assert markdown_table(run) == markdown_table([run]) and latex_table(run) == latex_table(iter([run]))
    assert draw_curves(run)[:4] == b"\x89PNG"


def test_a_table_is_a_text() -> None:
    table = markdown_table({"a": RECORDS, "b": RECORDS})
    assert isinstance(table, str) and table.startswith("| run |") and type(table + "") is str
    assert "r = 0.25" in Page(table._repr_html_()).text and "<td>" not in latex_table({"a": RECORDS})
    for twin in (copy.deepcopy(table), pickle.loads(pickle.dumps(table))):
        assert twin == table and twin._repr_html_() == table._repr_html_()
    assert Table("a < b")._repr_html_() == "<pre>a &lt; b</pre>"


NOTEBOOK = """
import sys, types, warnings
warnings.simplefilter("error")
class ZMQInteractiveShell: ...
sys.modules["ipykernel.zmqshell"] = types.ModuleType("ipykernel.zmqshell")
sys.modules["IPython"] = types.ModuleType("IPython")
sys.modules["IPython"].get_ipython = lambda: ZMQInteractiveShell()
sys.modules["IPython"].version_info = (9, 0)
sys.modules["ipywidgets"] = sys.modules["IPython.html"] = sys.modules["IPython.html.widgets"] = None
from robust_hub.bars import tqdm
for _ in tqdm(range(3)): ...
"""


def test_a_notebook_without_widgets_gets_a_bar_and_no_warning() -> None:
    words = [sys.executable, "-c", NOTEBOOK]
    result = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert result.returncode == 0, result.stderr
    assert "3/3" in result.stderr and result.stderr.endswith("\n") and "Warning" not in result.stderr


def test_every_bar_comes_from_one_place() -> None:
    import robust_hub

    home = Path(robust_hub.__file__).parent
    others = {path.name for path in home.rglob("*.py") if re.search(r"^\s*(from|import) tqdm", path.read_text(), re.M)}
    assert others == {"bars.py"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        __import__("robust_hub.bars")
