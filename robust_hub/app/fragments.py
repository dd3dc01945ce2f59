"""What the page shows, as fragments of HTML: every text from outside is escaped, every chart is text as well."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable, Sequence
from html import escape

from robust_hub.app.networks import Choice
from robust_hub.app.upload import Prepared
from robust_hub.app.work import Copies, Counted
from robust_hub.guarantee.certificate import Certificate
from robust_hub.guarantee.reach import largest_of
from robust_hub.guarantee.words import class_in_words, confidence, length, meaning
from robust_hub.images.photograph import as_png

Name = Callable[[int], str]
_BARS = 6  # classes whose votes have a bar of their own


def seen(prepared: Prepared, answer: str) -> str:
    """Show the image as the network sees it, with what it says without noise."""
    _, height, width = prepared.pixels.shape
    image = _image(as_png(prepared.pixels), f"{prepared.title}, as the network sees it")
    said = f'<p>Without noise the network says <b id="clean">{escape(answer)}</b>. Nothing is promised of that.</p>'
    title = f"{escape(prepared.title)}, as the network sees it: {width} x {height} pixels"
    return f'<figure class="rh-seen">{image}<figcaption>{title}</figcaption></figure>{said}'


def noisy(copies: Copies, name: Name, sigma: float, *, voted: bool) -> str:
    """Show noisy copies with the network's answer to each."""
    cells = []
    for k, (pixels, answer) in enumerate(zip(copies.pixels, copies.answers, strict=True), 1):
        said = escape(name(answer))
        image = _image(as_png(pixels), f"noisy copy {k}: {name(answer)}")
        cells.append(f'<figure class="rh-copy">{image}<figcaption title="{said}">{said}</figcaption></figure>')
    what = "The first of the copies that voted" if voted else "A few copies"
    title = f"{what}, noise of sigma {sigma:g}, and the network's answer to each:"
    return f'<p>{title}</p><div class="rh-copies">{"".join(cells)}</div>'


def trained(choice: Choice, classes: Sequence[str] | None, sigma: float) -> str:
    """Say what a network knows, and where the noise that is asked for is none that it was trained on."""
    known = "" if classes is None else f": {', '.join(classes[:10])}{' ...' if len(classes) > 10 else ''}"
    answers = f"Whatever it is shown, it answers with one of its {choice.classes} classes{known}."
    note = f"<p>{escape(answers)} {escape(choice.trained[:1].upper() + choice.trained[1:])}.</p>"
    if choice.sigmas is None or any(abs(sigma - own) < 1e-9 for own in choice.sigmas):
        return note
    seen = f"on noise of sigma {_listed(choice.sigmas)}, not {sigma:g}" if choice.sigmas else "without noise"
    return (
        f'{note}<p class="rh-note" role="note" id="unseen">This network was trained {seen}. A certificate is as '
        "true there as anywhere; but the network may recognise less, so that radii are smaller or missing.</p>"
    )


def progress(step: Counted) -> str:
    """Show how many noisy copies were classified."""
    said = f"{step.counted:,} of {step.total:,} noisy copies classified"
    bar = f'<progress max="{step.total}" value="{step.counted}" aria-label="{said}"></progress>'
    return f'<div class="rh-progress" role="status">{bar}<span id="counted">{said}</span></div>'


def note(words: str) -> str:
    """Say something on the way."""
    return f'<div class="rh-progress" role="status"><span>{escape(words)}</span></div>'


def halted(step: Counted, certificates: int) -> str:
    """Say what a stop left."""
    left = "what is there stays" if certificates else "nothing is certified"
    return note(f"Stopped after {step.counted:,} of {step.total:,} noisy copies: {left}.")


def failure(words: str) -> str:
    """Say why something could not be done."""
    said = " ".join(words.split())
    return f'<div class="rh-error" role="alert" id="failure">{escape(said[:1].upper() + said[1:])}.</div>'


def verdict(certificate: Certificate, classes: Sequence[str] | None) -> str:
    """Say what is certified, or that nothing is, large and then in plain words."""
    words = escape(meaning(certificate, classes))
    if certificate.abstained:
        return f'<div class="rh-verdict rh-abstained" id="verdict"><h3>No answer</h3><p>{words}</p></div>'
    name, radius = escape(class_in_words(certificate, classes)), length(certificate.radius)
    most = largest_of(certificate)
    limit = "" if most is None else f" {_limit(certificate, most)}"
    return (
        f'<div class="rh-verdict" id="verdict" data-radius="{certificate.radius!r}"><h3>{name}, certified within '
        f'<span id="radius">{radius}</span></h3><p>{words}{limit}</p></div>'
    )


def votes(certificate: Certificate, name: Name) -> str:
    """Show the votes of the classes, the most first, each with its count."""
    order = sorted(range(len(certificate.counts)), key=lambda k: -certificate.counts[k])
    shown = [k for k in order[:_BARS] if certificate.counts[k]]
    rows = [(name(k), certificate.counts[k], k == certificate.prediction) for k in shown]
    rest = certificate.n - sum(count for _, count, _ in rows)
    rows += [("all others", rest, False)] if rest else []
    lines = "".join(
        _bar(said, count / certificate.n, f"{count:,}", strong=chosen, limit=None) for said, count, chosen in rows
    )
    title = f"Votes of {certificate.n:,} noisy copies"
    return (
        f'<h4>{title}</h4><div class="rh-bars" id="votes">{lines}</div><p class="rh-small">Which class they '
        f"decide about was settled before, by {certificate.n0:,} other copies.</p>"
    )


def radii(certificates: Sequence[Certificate], chosen: float, classes: Sequence[str] | None) -> str:
    """Show the radius at each sigma, with the largest that so many samples could give."""
    ordered = sorted(certificates, key=lambda one: one.sigma)
    limits = [largest_of(one) or 0.0 for one in ordered]
    whole = max([*limits, 1e-9])
    lines = "".join(
        _bar(
            f"{one.sigma:g}",
            one.radius / whole,
            "no answer" if one.abstained else f"{length(one.radius)} {class_in_words(one, classes)}",
            strong=one.sigma == chosen,
            limit=limit / whole,
        )
        for one, limit in zip(ordered, limits, strict=True)
    )
    together = confidence(sum(one.alpha for one in certificates))
    several = len(certificates) > 1
    heading = "Radius at each sigma, the chosen one in bold" if several else "Radius at this sigma"
    apart = (
        " Each sigma makes a classifier of its own, and each radius is a promise of its own: the largest of them is "
        f"not one for all. All {len(certificates)} are true at once with {together} confidence."
    )
    return (
        f'<h4>{heading}</h4><div class="rh-bars" id="radii">{lines}</div>'
        f'<p class="rh-small">The line at the end of a row is the largest radius that {ordered[0].n:,} samples can '
        f"give.{apart if several else ''}</p>"
    )


def check(network: str, certificate: str, image: str) -> str:
    """Say how anybody checks the files that can be downloaded."""
    words = ["robust-hub", "verify-certificate", certificate, "--model", network, "--image", image, "--fresh", "10000"]
    command = shlex.join(words)
    return (
        "<p>Whoever has these two files need not trust this page: votes, network and image are checked, and fresh "
        f"noise is drawn, by</p><pre>{escape(command)}</pre>"
    )


def _bar(name: str, share: float, said: str, *, strong: bool, limit: float | None) -> str:
    mark = "" if limit is None else f'<i style="left:{100 * limit:.1f}%"></i>'
    kind = " rh-strong" if strong else ""
    return (
        f'<div class="rh-row{kind}"><span class="rh-name" title="{escape(name)}">{escape(name)}</span><span '
        f'class="rh-track"><b style="width:{100 * share:.1f}%"></b>{mark}</span><span class="rh-count">{escape(said)}'
        "</span></div>"
    )


def _limit(certificate: Certificate, most: float) -> str:
    said = f"No network gets more than about {length(most)} from {certificate.n:,} samples at this sigma"
    return f"{said}; more samples can give a larger radius." if certificate.count == certificate.n else f"{said}."


def _listed(sigmas: Sequence[float]) -> str:
    words = [f"{sigma:g}" for sigma in sigmas]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _image(png: bytes, alt: str) -> str:
    data = base64.b64encode(png).decode()
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">'
