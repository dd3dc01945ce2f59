"""A certificate on one line, and as a few lines of HTML for notebooks.

A radius is cut downwards, never rounded up. Names of classes may be a stranger's: they are escaped.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from robust_hub.guarantee.words import class_in_words, confidence, headline, length, meaning

if TYPE_CHECKING:  # these two show themselves by what stands here
    from robust_hub.guarantee.certificate import Certificate
    from robust_hub.guarantee.composite import JointCertificate


def certificate_line(certificate: Certificate) -> str:
    """Say a certificate on one line, without its votes."""
    c = certificate
    name = "" if c.class_name is None else f", class_name={c.class_name!r}"
    what = "abstained" if c.abstained else f"prediction={c.prediction}{name}, radius={length(c.radius)}"
    return f"Certificate({what}, sigma={c.sigma:g}, n={c.n}, alpha={c.alpha:g})"


def joint_line(joint: JointCertificate) -> str:
    """Say a certificate of several sigmas on one line."""
    what = "abstained" if joint.abstained else f"prediction={joint.prediction}, radius={length(joint.radius)}"
    sigmas = ", ".join(f"{sigma:g}" for sigma in joint.sigmas)
    return f"JointCertificate({what}, sigmas=({sigmas}), alpha={joint.alpha:g})"


def certificate_html(certificate: Certificate) -> str:
    """Say a certificate and what it means as HTML, without colours of its own."""
    c = certificate
    said = f"sigma {c.sigma:g} · {c.count:,} of {c.n:,} votes · confidence {confidence(c.alpha)}"
    return f"<div><b>{_text(headline(c))}</b> · {said}<p>{_text(meaning(c))}</p></div>"


def joint_html(joint: JointCertificate) -> str:
    """Say a certificate of several sigmas as HTML: of the composite first, then of each sigma."""
    sure = f"With {confidence(joint.alpha)} confidence over the noise drawn, all of this is true at once."
    first = next((one for one in joint.certificates if not one.abstained), None)
    name = f"class {joint.prediction}" if first is None else class_in_words(first)
    what = "no answer" if joint.abstained else f"{name}, radius {length(joint.radius)}"
    lines = "".join(f"<tr><th>{c.sigma:g}</th><td>{_text(headline(c))}</td></tr>" for c in joint.certificates)
    table = f"<table><thead><tr><th>sigma</th><th>its own classifier</th></tr></thead><tbody>{lines}</tbody></table>"
    rest = (
        "The first line is of the composite classifier, which takes for each class the sigma that speaks for it most; "
        "the largest radius of the table is not its radius."
    )
    return f"<div><b>{_text(what)}</b> · composite of {len(joint.certificates)} sigmas{table}<p>{sure} {rest}</p></div>"


def _text(words: str) -> str:
    """Escape markup, and show control characters as Python writes them."""
    return escape("".join(c if c.isprintable() else repr(c)[1:-1] for c in words))
