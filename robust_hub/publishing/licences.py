"""The licence of weights: one of the Hub's ids, which who made them chooses. None is assumed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from pathlib import Path

from robust_hub.files import inside, replace_text
from robust_hub.layout import CONFIG
from robust_hub.models.config import LICENSE, CheckpointConfig
from robust_hub.names import did_you_mean
from robust_hub.parsing import read_bounded_json, shown
from robust_hub.provenance import Provenance

ADDRESS = "https://huggingface.co/docs/hub/repositories-licenses"
# The Hub's ids, but for those of one company's language models: `other` stands for what is not among them.
_IDS = (
    "afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc "
    "cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 "
    "cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 "
    "cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 "
    "eupl-1.1 eupl-1.2 gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr lppl-1.3c mit mpl-2.0 ms-pl ncsa "
    "odbl odc-by ofl-1.1 openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl "
    "zlib"
)
LICENCES = frozenset(_IDS.split())
_PERMISSIVE = frozenset(["apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "isc", "mit", "unlicense", "zlib"])
TITLES = {  # as people write them; another id is its own
    **{"apache-2.0": "Apache-2.0", "mit": "MIT", "other": "a licence of their own", "unknown": "an unknown licence"}
}


def check_licence(licence: str) -> str:
    """Take the id of a licence, in the Hub's spelling or SPDX's.

    Args:
        licence: Such as "apache-2.0", "CC-BY-NC-4.0", or "other" for one of your own.

    Returns:
        The Hub's id.

    Raises:
        ValueError: If the Hub knows none of that id; near ones are offered.

    Example:
        >>> check_licence("Apache-2.0")
        'apache-2.0'
    """
    known = licence.strip().lower()
    if known not in LICENCES:
        near = did_you_mean(known, sorted(LICENCES), ("apache-2.0", "cc-by-nc-4.0", "other"))
        raise ValueError(
            f"expected the Hub's id of a licence, got {shown(repr(licence), 60)}: {near} `other` stands for one that "
            f"is not in {ADDRESS}"
        )
    return known


def inherited(bases: Iterable[Provenance], own: str | None) -> list[str]:
    """Give the licences, other than its own, of weights that a checkpoint started from, the nearest first.

    Args:
        bases: How those weights came about.
        own: The checkpoint's own licence.
    """
    told = dict.fromkeys(str(base.notes.get(LICENSE) or "") for base in bases)
    return [one for one in told if one not in ("", own)]


def warn_of_inherited(config: CheckpointConfig, chosen: str | None) -> None:
    """Say that another licence than the chosen one goes on with weights: only a person can say if both hold."""
    bases = () if config.provenance is None else tuple(config.provenance.lineage())[1:]
    others = [one for one in inherited(bases, chosen) if one not in _PERMISSIVE]
    if chosen is not None and others:
        warnings.warn(
            f"these weights, {chosen}, started from weights under {shown(' and '.join(others), 200)}, whose terms go "
            "on with them: make sure that they allow that",
            stacklevel=3,
        )


def record_licence(folder: str | Path, licence: str) -> Path:
    """Write the licence of a checkpoint's weights into its config.json; whatever else that says is left as it is.

    Args:
        folder: A checkpoint's folder.
        licence: The Hub's id, see `check_licence`.

    Returns:
        The path of config.json.

    Raises:
        ValueError: If there is no such licence, or config.json cannot be read or is no checkpoint's of ours.

    Example:
        >>> import tempfile
        >>> import robust_hub
        >>> model = robust_hub.load_model("resnet18s_gn", num_classes=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = record_licence(robust_hub.save_checkpoint(model, folder), "mit")
        ...     '"license": "mit"' in path.read_text()
        True
    """
    path, known = inside(Path(folder), CONFIG), check_licence(licence)
    values = read_bounded_json(path, CONFIG)
    ours = values.get("robust_hub")
    if not isinstance(ours, dict):
        raise ValueError(f"expected a checkpoint of robust_hub, got {shown(path)} of another library: adopt it first")
    told = {}
    for name, value in ours.items():
        if name != LICENSE:
            told[name] = value
        if name == "stem":
            told[LICENSE] = known
    replace_text(path, json.dumps({**values, "robust_hub": {**told, LICENSE: known}}, indent=2) + "\n")
    return path
