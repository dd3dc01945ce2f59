"""What is done when something on the page is moved: values in, what to show out.

What belongs to a visitor is in the arguments, never in the object: all visitors share it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from robust_hub.app import fragments, work
from robust_hub.app.networks import Choice, Networks
from robust_hub.app.upload import Prepared, prepare_drawing, prepare_file
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.errors import CheckpointError
from robust_hub.guarantee.certificate import Certificate
from robust_hub.images.photograph import as_png

_NO_FILE = gr.update(value=None, visible=False)
_NO_ROOM = "have whoever serves the page make room, then press Certify again"
_REFUSED = (ValueError, TypeError, OSError, CheckpointError, MemoryError)


class Outcome(NamedTuple):
    """What a step of the work changes on the page; what it leaves out stays as it is."""

    job: Any = gr.skip()
    status: Any = gr.skip()
    copies: Any = gr.skip()
    result: Any = gr.skip()
    certificate: Any = gr.skip()
    image: Any = gr.skip()
    check: Any = gr.skip()
    go: Any = gr.skip()
    stop: Any = gr.skip()


class Handlers:
    """The page's answers to what its visitors do.

    Args:
        offered: The checkpoints to choose from.
        files: A folder for files to download.
    """

    def __init__(self, offered: tuple[Choice, ...], files: Path) -> None:
        self.networks, self._files = Networks(offered), files

    def look(
        self, job: work.Job | None, network: str, file: str | None, picked: str, sigma: float
    ) -> tuple[str, str, str, Any, *Outcome]:
        """Show what is refused, the image, the network, and noisy copies; a certificate of something else is gone."""
        gallery = gr.skip() if file is None else gr.update(selected_index=None)
        outcome, about = self.forget(job)._replace(copies=""), ""
        try:
            smoothed = self.networks.get(network)
            about = fragments.trained(self.networks.offered[network], smoothed.classes, sigma)
            prepared = self._prepare(network, file, picked)
            answer = smoothed.name(int(smoothed.classify(prepared.x[None])[0]))
            copies = work.show_copies(smoothed, prepared.x, sigma)
        except _REFUSED as error:
            return fragments.failure(str(error)), "", about, gallery, *outcome._replace(status="")
        shown = fragments.noisy(copies, smoothed.name, sigma, voted=False)
        return "", fragments.seen(prepared, answer), about, gallery, *outcome._replace(copies=shown)

    def forget(self, job: work.Job | None) -> Outcome:
        """End the work of a visitor and take away a certificate of something else than is chosen now."""
        if job is not None:
            job.stop()
        ready = fragments.note("Nothing is certified yet: press Certify.")
        return _idle(status=ready, result="", certificate=_NO_FILE, image=_NO_FILE, check="")

    def begin(self) -> Outcome:
        """Take an earlier certificate away, and let the visitor wait for a place, or stop waiting."""
        shown = {"result": "", "certificate": _NO_FILE, "image": _NO_FILE, "check": ""}
        shown |= {"go": gr.update(interactive=False), "stop": gr.update(interactive=True)}
        return Outcome(status=fragments.note("Waiting for others whose pictures are certified ..."), **shown)

    def certify(
        self, network: str, file: str | None, picked: str, sigma: float, n: float, several: bool
    ) -> Iterator[Outcome]:
        """Certify, and tell of it on the way."""
        try:
            smoothed = self.networks.get(network)
            prepared = self._prepare(network, file, picked)
            job = work.Job(smoothed, prepared.x, work.beside(sigma) if several else (sigma,), int(n))
        except _REFUSED as error:
            yield _idle(status=fragments.failure(str(error)))
            return
        yield Outcome(job=job, status=fragments.progress(job.far))
        made: tuple[Certificate, ...] = ()
        try:
            with tempfile.TemporaryDirectory(dir=self._files) as folder:  # Gradio keeps copies, for a while
                for step in job.steps():
                    if isinstance(step, work.Counted):
                        yield Outcome(status=fragments.progress(step))
                        continue
                    made += (step,)
                    yield self._certified(job, smoothed, network, prepared, made, Path(folder))
                yield _idle(status=fragments.progress(job.far))
        except work.StoppedError:
            yield _idle(status=fragments.halted(job.far, job.made))
        except OSError as error:  # its own words name folders of the machine
            got = error.strerror or "an error of the system"
            yield _idle(status=fragments.failure(f"expected room for the files, got {got}: {_NO_ROOM}"))
        except _REFUSED as error:
            yield _idle(status=fragments.failure(str(error)))

    def stop(self, job: work.Job | None) -> Outcome:
        """End the work of a visitor; that of one who still waits has not begun, and an earlier one has ended."""
        if job is None or not job.running:
            return _idle(status=fragments.note("Stopped."))
        job.stop()
        job.wait()
        return _idle(status=fragments.halted(job.far, job.made))

    def _prepare(self, network: str, file: str | None, picked: str) -> Prepared:
        choice = self.networks.offered[network]
        if file is None:
            return prepare_drawing(picked, choice.size, choice.channels)
        return prepare_file(file, choice.size, choice.channels)

    def _certified(
        self,
        job: work.Job,
        smoothed: SmoothedClassifier,
        network: str,
        prepared: Prepared,
        made: tuple[Certificate, ...],
        folder: Path,
    ) -> Outcome:
        """Show what is certified so far; votes, copies and files are of the chosen sigma, which is the first."""
        chosen = made[0]
        result = "".join(
            (
                fragments.verdict(chosen, smoothed.classes),
                fragments.votes(chosen, smoothed.name),
                fragments.radii(made, chosen.sigma, smoothed.classes),
            )
        )
        shown = Outcome(status=fragments.progress(job.far), result=result)
        if len(made) > 1:
            return shown
        copies = work.show_copies(smoothed, prepared.x, chosen.sigma, chosen.seed)
        certificate, image = _write(folder, prepared, chosen)
        return shown._replace(
            copies=fragments.noisy(copies, smoothed.name, chosen.sigma, voted=True),
            certificate=gr.update(value=str(certificate), visible=True),
            image=gr.update(value=str(image), visible=True),
            check=fragments.check(network, certificate.name, image.name),
        )


def _write(folder: Path, prepared: Prepared, chosen: Certificate) -> tuple[Path, Path]:
    """Write the files that `robust-hub verify-certificate` takes."""
    certificate, image = folder / "certificate.json", folder / "image.png"
    certificate.write_text(chosen.to_json())
    image.write_bytes(as_png(prepared.pixels))
    return certificate, image


def _idle(**shown: Any) -> Outcome:
    """Let the visitor begin again."""
    return Outcome(go=gr.update(interactive=True), stop=gr.update(interactive=False), **shown)
