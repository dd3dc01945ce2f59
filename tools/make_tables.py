"""Write the tables of docs/small-checkpoint.md from the records in docs/evidence; with --check only compare.

Run it from anywhere: python tools/make_tables.py [--check]
"""

from __future__ import annotations

from pages import DOCS, EVIDENCE, write_or_check

from robust_hub.evidence.accuracy import certified_accuracy, clean_accuracy
from robust_hub.evidence.records import Run, read_run
from robust_hub.evidence.tables import markdown_table

PAGE = DOCS / "small-checkpoint.md"
ROWS = {
    "mixed noise, full network": "mixed_full",
    "clean, full network": "clean_full",
    "mixed noise, head only": "mixed_head",
    "clean, head only": "clean_head",
}
SEQUENTIAL = EVIDENCE / "mixed_full_radii" / "sigma_0.25"


def tables() -> str:
    """Make the table of the finished runs and the differences between the two pretrainings."""
    folders = {label: EVIDENCE / folder / "sigma_0.25" for label, folder in ROWS.items()}
    every = {label: read_run(folder) for label, folder in folders.items() if folder.exists()}
    runs = {label: run for label, run in every.items() if run.finished}
    lines: list[str] = [markdown_table({label: run.records for label, run in runs.items()})] if runs else []
    differences = []
    for kind in ("full network", "head only"):
        pair = [runs[label].records for label in (f"mixed noise, {kind}", f"clean, {kind}") if label in runs]
        if len(pair) == 2:
            robust = [100 * certified_accuracy(records, 0.25).value for records in pair]
            clean = [100 * share.value for records in pair if (share := clean_accuracy(records)) is not None]
            differences.append(f"| {kind} | {robust[0] - robust[1]:+.1f} points | {clean[0] - clean[1]:+.1f} points |")
    if differences:
        lines += ["| fine-tuned | certified at 0.25, mixed minus clean | clean accuracy, mixed minus clean |"]
        lines += ["|---|---|---|", *differences]
    if SEQUENTIAL.exists():
        lines += ["", sequential(runs.get("mixed noise, full network"))]
    missing = [label for label in ROWS if label not in runs]
    if missing:
        lines += ["", f"Not certified yet: {'; '.join(missing)}."]
    return "\n".join(lines)


def sequential(fixed: Run | None) -> str:
    """Set the sequential run of the first row beside the fixed budget."""
    run = read_run(SEQUENTIAL)
    mean = sum((r.n or 0) + (r.n0 or 0) for r in run.records) / len(run.records)
    radii = run.identity["radii"]
    words = ", ".join(f"{100 * certified_accuracy(run.records, r).value:.1f} % at {r:g}" for r in radii)
    text = (
        f"A sequential plan with these radii (`--radii {','.join(f'{r:g}' for r in radii)}`) and at most "
        f"{run.identity['n']:,} samples certifies the first row's network at {words}, with {mean:,.0f} samples an image"
    )
    if fixed is None:
        return text + "."
    same = sum((a.idx, a.predict) == (b.idx, b.predict) for a, b in zip(run.records, fixed.records, strict=True))
    budget = fixed.identity["n0"] + fixed.identity["n"]
    return f"{text} in place of {budget:,}; {same} of {len(run.records)} predictions are those of the fixed plan."


def parts() -> dict[str, str]:
    """Make every part of the page."""
    return {"records": tables()}


if __name__ == "__main__":
    write_or_check(PAGE, parts(), "tools/make_tables.py")
