"""The page: what stands where."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from robust_hub.app import work
from robust_hub.app.drawings import DRAWINGS, drawing
from robust_hub.app.handlers import Handlers, Outcome
from robust_hub.app.networks import Choice

AT_ONCE = 2  # visitors whose images are certified at the same time; others wait
WAITING = 20  # who may wait
NAME = "robust-hub: certify a picture"
TITLE = """# How far may a picture be changed, and the answer is sure to stay?

A neural network votes on a thousand noisy copies of your picture. From the votes follows, with 99.9 % confidence, a
**radius**: whoever changes what the network sees by less than that, in whatever way, does not change the winner.
"""
SIGMA = "Standard deviation of the noise, pixel values from 0 to 1. More noise: larger radii, or no answer."
SAMPLES = "How many noisy copies vote. More copies can give larger radii, and take longer."
OTHERS = ", ".join(f"{sigma:g}" for sigma in work.SIGMAS)
CSS = Path(__file__).with_name("page.css")
THEME = gr.themes.Default(
    primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
).set(block_info_text_color="*neutral_600", body_text_color_subdued="*neutral_600")
_KEPT: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


class _Asked(NamedTuple):
    """What a visitor chooses, and what is said of it beside."""

    picked: gr.State
    gallery: gr.Gallery
    file: gr.File
    refused: gr.HTML
    network: gr.Dropdown
    about: gr.HTML
    sigma: gr.Slider
    n: gr.Slider
    several: gr.Checkbox


def build_page(offered: tuple[Choice, ...], files: Path) -> gr.Blocks:
    """Lay out the page.

    Args:
        offered: The checkpoints to choose from, the first one to begin with.
        files: A folder for files to download.

    Returns:
        The page, to be launched with `THEME` and `CSS`.
    """
    with gr.Blocks(title=NAME, analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown(TITLE)
        with gr.Row():
            with gr.Column(min_width=320):
                asked = _ask(offered)
            with gr.Column(min_width=320):
                gr.Markdown("## 3. What the network sees")
                seen = gr.HTML(elem_id="seen")
                outcome = _answer()
        _connect(page, Handlers(offered, files), asked, seen, outcome)
    page.queue(max_size=WAITING)
    return page


def _ask(offered: tuple[Choice, ...]) -> _Asked:
    """Lay out what a visitor chooses."""
    gr.Markdown("## 1. A picture")
    look = {"columns": 4, "height": "auto", "format": "png", "buttons": [], "allow_preview": False}
    return _Asked(
        picked=gr.State(next(iter(DRAWINGS))),
        gallery=gr.Gallery(
            [(drawing(name), name) for name in DRAWINGS],
            label="Pick a drawing",
            elem_id="drawings",
            interactive=False,
            selected_index=0,
            **look,
        ),
        file=gr.File(label="Or drop in a picture of yours", height=130, elem_id="upload"),
        refused=gr.HTML(elem_id="refused"),
        network=_network([one.name for one in offered]),
        about=gr.HTML(elem_id="about"),
        sigma=gr.Slider(
            work.SIGMA_LEAST, work.SIGMA_MOST, 0.25, step=0.01, label="Noise (sigma)", info=SIGMA, elem_id="sigma"
        ),
        n=gr.Slider(work.LEAST, work.MOST, 1000, step=100, label="Samples (n)", info=SAMPLES, elem_id="samples"),
        several=gr.Checkbox(True, label=f"Certify at sigma {OTHERS}, too", elem_id="several"),
    )


def _network(names: list[str]) -> gr.Dropdown:
    gr.Markdown("## 2. A network and its noise")
    return gr.Dropdown(names, value=names[0], label="Network", elem_id="network")


def _answer() -> Outcome:
    """Lay out what a visitor is told."""
    copies = gr.HTML(elem_id="copies")
    gr.Markdown("## 4. The certificate")
    with gr.Row():
        go = gr.Button("Certify", variant="primary", min_width=120, elem_id="go")
        stop = gr.Button("Stop", variant="stop", interactive=False, min_width=120, elem_id="stop")
    status, result = gr.HTML(elem_id="status"), gr.HTML(elem_id="result")
    with gr.Row():
        certificate = gr.DownloadButton("Download certificate.json", elem_id="certificate", visible=False)
        image = gr.DownloadButton("Download image.png", elem_id="image", visible=False)
    check = gr.HTML(elem_id="check")
    return Outcome(gr.State(None), status, copies, result, certificate, image, check, go, stop)


def _connect(page: gr.Blocks, handlers: Handlers, asked: _Asked, seen: gr.HTML, outcome: Outcome) -> None:
    """Have what is moved answered: it ends what is certified, and Certify what is only shown, so none overtakes."""
    chosen = [asked.network, asked.file, asked.picked, asked.sigma]
    shown = [asked.refused, seen, asked.about, asked.gallery, *outcome]
    look = {
        "fn": handlers.look,
        "inputs": [outcome.job, *chosen],
        "outputs": shown,
        "concurrency_limit": 2 * AT_ONCE,
        **_KEPT,
    }
    asks = [*chosen, asked.n, asked.several]
    begun = outcome.go.click(handlers.begin, None, list(outcome), queue=False, **_KEPT)
    run = begun.then(handlers.certify, asks, list(outcome), concurrency_limit=AT_ONCE, **_KEPT)
    outcome.stop.click(handlers.stop, [outcome.job], list(outcome), queue=False, cancels=[run], **_KEPT)
    picked = asked.gallery.select(_pick, None, [asked.picked, asked.file], cancels=[run], **_KEPT).then(**look)
    moves = [page.load, asked.file.upload, asked.file.clear, asked.network.input, asked.sigma.change]
    moved = gr.on(moves, **look, cancels=[run], trigger_mode="always_last")
    rest = [asked.n.change, asked.several.change]
    forgot = gr.on(rest, handlers.forget, [outcome.job], list(outcome), cancels=[run], **_KEPT)
    outcome.go.click(None, cancels=[picked, moved, forgot])


def _pick(event: gr.SelectData) -> tuple[str, None]:
    """Take a drawing, and no file."""
    return list(DRAWINGS)[event.index], None
