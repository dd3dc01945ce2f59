"""The demo page, driven in a browser as a visitor does."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from toy_page import CLASSES, TOY, browser_path, toy_shelf

pytest.importorskip("gradio", reason="needs Gradio: pip install 'robust-hub[app]'")
from robust_hub.app.work import Job
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.guarantee.audit import audit
from robust_hub.guarantee.certificate import Certificate
from robust_hub.images.given import prepare
from robust_hub.models.resnets import load_model

pytestmark = pytest.mark.full  # a browser and Gradio take seconds to begin
SECONDS = 60  # that a loaded machine may take for one answer


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = toy_shelf(tmp_path_factory.mktemp("shelf"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUST_HUB_SHELF", str(folder))
        yield folder


@pytest.fixture(scope="module")
def address(shelf: Path) -> Iterator[str]:
    browser_path()
    from robust_hub.app.serve import serve

    with serve(TOY, port=0) as found:
        yield found


@pytest.fixture(scope="module")
def browser(address: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        with closing(chromium):
            yield chromium


class Visitor:
    """A visitor's tab: what it asks of other machines is refused and kept, and so is what it complains of."""

    def __init__(self, browser: Any, address: str, width: int = 1280) -> None:
        self.outside: list[str] = []
        self.complaints: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
        self.page = self.context.new_page()
        self.page.set_default_timeout(1000 * SECONDS)
        self.page.route("**/*", lambda route: self._let(route, address))
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_selector("#clean")

    def _let(self, route: Any, address: str) -> None:
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            self.outside.append(route.request.url)
            route.abort()

    def close(self) -> None:
        self.context.close()

    def choose(self, **numbers: float) -> None:
        """Set sliders by their numbers, and wait until the page has answered."""
        for name, number in numbers.items():
            box = self.page.locator(f"#{name} input[type=number]")
            box.fill(f"{number:g}")
            box.press("Enter")
        if "sigma" in numbers:
            self.wait("#copies", f"sigma {numbers['sigma']:g}")
        self.page.wait_for_timeout(500)

    def upload(self, file: Path) -> None:
        if clear := self.page.query_selector("#upload button[aria-label='Clear']"):
            clear.click()
            self.wait("#seen", "drawing")
        self.page.set_input_files("#upload input[type=file]", str(file))

    def wait(self, where: str, words: str) -> str:
        """Wait for words in a part of the page, and give its text."""
        self.page.wait_for_function(
            "([a, b]) => document.querySelector(a)?.textContent.includes(b)", arg=[where, words]
        )
        return str(self.page.inner_text(where))

    def certify(self) -> str:
        self.page.click("#go")
        self.page.wait_for_selector("#verdict")
        return str(self.page.inner_text("#verdict"))

    def download(self, which: str, folder: Path) -> Path:
        with self.page.expect_download() as found:
            self.page.click(f"#{which}")
        path = folder / found.value.suggested_filename
        found.value.save_as(path)
        return path


@pytest.fixture
def visitor(browser: Any, address: str) -> Iterator[Visitor]:
    with closing(Visitor(browser, address)) as one:
        yield one
        assert one.outside == [] and one.complaints == []


def photograph(path: Path) -> Path:
    """A picture of noise in large squares, wider than high."""
    levels = torch.randint(256, (6, 9, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    Image.fromarray(levels.numpy()).resize((180, 120)).save(path)
    return path


def ends(condition: Any) -> bool:
    """Whether something comes true in time."""
    end = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def working() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "certify"]


def test_a_file_is_certified_as_in_python_and_its_certificate_can_be_checked(
    visitor: Visitor, shelf: Path, tmp_path: Path
) -> None:
    file = photograph(tmp_path / "squares.png")
    visitor.upload(file)
    visitor.wait("#seen", "squares.png, 180 x 120 pixels, as the network sees it: 32 x 32 pixels")
    visitor.page.uncheck("#several input")
    visitor.choose(sigma=0.3, samples=300)
    said = visitor.certify()
    certificate = Certificate.from_json(visitor.download("certificate", tmp_path).read_text())
    audit(certificate)
    model = load_model(shelf / TOY).to(memory_format=torch.channels_last)
    x = prepare(file, model)
    again = SmoothedClassifier(model).certify(x, 0.3, n=300, seed=certificate.seed)
    assert (certificate.counts, certificate.radius) == (again.counts, again.radius) and certificate.n == 300
    assert not certificate.reproduction and certificate.sigma == 0.3
    shown = visitor.page.get_attribute("#verdict", "data-radius")
    assert certificate.abstained == ("No answer" in said) and (shown is None or float(shown) == again.radius)
    assert visitor.page.inner_text("#clean") == CLASSES[int(SmoothedClassifier(model).classify(x[None])[0])]
    counts = visitor.page.inner_text("#votes")
    assert all(f"{count:,}" in counts for count in certificate.counts if count)
    image = visitor.download("image", tmp_path)
    from click.testing import CliRunner

    from robust_hub.cli.main import main

    checked = CliRunner().invoke(
        main,
        ["verify-certificate", str(tmp_path / "certificate.json"), "--model", TOY, "--image", str(image), "--json"],
    )
    assert checked.exit_code == 0, checked.output
    report = json.loads(checked.output)
    assert report["well"] and report["weights"] and report["image"]
    assert f"--model {TOY} --image {image.name}" in visitor.page.inner_text("#check").replace("\n", " ")


def test_what_is_no_picture_is_refused_and_the_page_goes_on(visitor: Visitor, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    visitor.upload(tmp_path / "text.jpg")
    said = visitor.wait("#refused", "text.jpg")
    assert said.startswith("Expected an image that can be decoded")
    assert visitor.page.inner_text("#seen").strip() == ""
    visitor.page.click("#go")
    assert visitor.wait("#status", "text.jpg") == said
    assert visitor.page.query_selector("#verdict") is None and visitor.page.is_enabled("#go")
    visitor.upload(photograph(tmp_path / "squares.png"))
    visitor.wait("#seen", "squares.png")
    assert visitor.page.inner_text("#refused").strip() == ""


def test_stop_ends_the_work_in_the_middle(visitor: Visitor) -> None:
    visitor.choose(samples=10_000)
    visitor.page.click("#go")
    visitor.page.wait_for_function("parseInt(document.querySelector('#counted')?.textContent) > 0")
    assert len(working()) == 1 and visitor.page.is_disabled("#go")
    visitor.page.click("#stop")
    said = visitor.wait("#status", "Stopped after")
    counted = int(said.split()[2].replace(",", ""))
    assert 0 < counted < 10_100 and "of 50,500" in said and "nothing is certified" in said
    assert ends(lambda: not working())
    assert visitor.page.is_enabled("#go") and visitor.page.query_selector("#verdict") is None
    visitor.choose(samples=100)
    visitor.certify()


def test_a_tab_that_is_closed_leaves_no_work_behind(browser: Any, address: str) -> None:
    with closing(Visitor(browser, address)) as one:
        one.choose(samples=10_000)
        one.page.click("#go")
        one.page.wait_for_function("parseInt(document.querySelector('#counted')?.textContent) > 0")
        assert len(working()) == 1
    assert ends(lambda: not working())


def test_whatever_is_moved_takes_the_certificate_of_something_else_away(visitor: Visitor) -> None:
    visitor.choose(samples=100)
    visitor.page.uncheck("#several input")
    visitor.page.wait_for_timeout(500)
    for move in (
        lambda: visitor.choose(sigma=0.5),
        lambda: visitor.page.click("#drawings button >> nth=3"),
        lambda: visitor.choose(samples=200),
    ):
        visitor.certify()
        visitor.page.wait_for_selector("#certificate", state="visible")
        move()
        visitor.page.wait_for_selector("#verdict", state="detached")
        visitor.wait("#status", "Nothing is certified yet")
        visitor.page.wait_for_selector("#certificate", state="hidden")
        assert visitor.page.inner_text("#check").strip() == ""


def test_two_visitors_at_once_have_pictures_and_certificates_of_their_own(
    browser: Any, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, count = threading.Barrier(2, timeout=SECONDS), Job._count  # neither goes on before the other has begun
    monkeypatch.setattr(Job, "_count", lambda job, n: (job.far.counted or both.wait(), count(job, n)))
    with closing(Visitor(browser, address)) as one, closing(Visitor(browser, address, width=390)) as other:
        one.choose(samples=600)
        other.page.click("#drawings button >> nth=1")
        other.wait("#seen", "airplane")
        other.choose(sigma=0.6, samples=500)
        for visitor in (one, other):
            visitor.page.uncheck("#several input")
            visitor.page.wait_for_timeout(300)
        for visitor in (one, other):
            visitor.page.click("#go")
        made = []
        for visitor, name in ((one, "one"), (other, "other")):
            visitor.page.wait_for_selector("#verdict")
            (tmp_path / name).mkdir()
            made.append(Certificate.from_json(visitor.download("certificate", tmp_path / name).read_text()))
        assert [(c.sigma, c.n) for c in made] == [(0.25, 600), (0.6, 500)]
        assert made[0].origin is not None and made[1].origin is not None
        assert made[0].origin.image != made[1].origin.image and made[0].seed != made[1].seed
        assert "ship" in one.page.inner_text("#seen") and "airplane" in other.page.inner_text("#seen")
        assert other.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert one.outside + other.outside + one.complaints + other.complaints == []


def test_a_third_visitor_waits_and_may_stop_waiting(browser: Any, address: str) -> None:
    with (
        closing(Visitor(browser, address)) as one,
        closing(Visitor(browser, address)) as two,
        closing(Visitor(browser, address)) as three,
    ):
        for busy in (one, two):
            busy.choose(samples=10_000)
            busy.page.click("#go")
            busy.page.wait_for_function("parseInt(document.querySelector('#counted')?.textContent) > 0")
        three.page.click("#go")
        three.wait("#status", "Waiting for others")
        three.page.click("#stop")
        three.wait("#status", "Stopped.")
        one.page.click("#stop")
        one.wait("#status", "Stopped after")
        three.page.wait_for_timeout(1000)
        assert len(working()) == 1 and three.page.inner_text("#status") == "Stopped."
        three.choose(samples=100)
        three.certify()
    assert ends(lambda: not working())


def test_the_bare_word_of_work_that_was_cancelled_is_not_shown(visitor: Visitor) -> None:
    """Gradio's "Error" beside "Stopped.", where a place was free in the moment that the visitor stopped waiting."""
    for part in ("status", "result", "copies", "check"):
        bare = "beforeend', '<span class=error>Error</span>"
        visitor.page.evaluate(f"document.querySelector('#{part}').insertAdjacentHTML('{bare}')")
        assert "Error" not in visitor.page.inner_text(f"#{part}")


def test_a_tracker_that_nobody_sees_is_not_read_aloud_either(visitor: Visitor) -> None:
    """Gradio's "processing | 0.1/0.4s", which it makes transparent where no progress is to be shown."""
    for state, read in (("hide", False), ("", True)):
        bare = f"beforeend', '<div class=\"{state}\" data-testid=status-tracker>processing {state}</div>"
        visitor.page.evaluate(f"document.querySelector('#refused').insertAdjacentHTML('{bare}')")
        assert (f"processing {state}".strip() in visitor.page.inner_text("#refused")) == read


def test_several_sigmas_have_a_radius_each_and_a_note_where_none_was_trained_on(visitor: Visitor) -> None:
    visitor.choose(samples=100, sigma=0.4)
    visitor.certify()
    visitor.wait("#counted", "1,200 of 1,200")
    rows = visitor.page.inner_text("#radii").split("\n")
    assert [row for row in rows if row in ("0.12", "0.25", "0.4", "0.5", "0.75", "1")] == [
        *("0.12", "0.25", "0.4", "0.5", "0.75", "1")
    ]
    assert "All 6 are true at once with 99.4 % confidence" in visitor.page.inner_text("#result")


def test_the_address_is_this_machine_alone(address: str) -> None:
    assert address.startswith("http://127.0.0.1:") and "GRADIO_SHARE" not in os.environ
