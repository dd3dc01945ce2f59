import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from robust_hub.asked import other_training
from robust_hub.checkpoint import read_config
from robust_hub.paper import TABLES
from robust_hub.recipes import SCALES
from robust_hub.records import read_run
from robust_hub.reproduce import row_name

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {
    "make_tables.py": ("small-checkpoint.md", ["evidence"]),
    "make_results.py": ("results.md", ["results", "evidence"]),
    "make_queue.py": ("training-queue.md", ["../model_cards"]),
    "make_throughput.py": ("throughput.md", ["evidence"]),
    "simulate_plans.py": ("statistics.md", ["plans.json"]),
}

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="the documentation is not part of this copy")


def check(script: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True)


@pytest.mark.parametrize("script", PAGES)
def test_published_tables_are_those_of_the_records(script):
    done = check(DOCS / script)
    assert done.returncode == 0, done.stderr


def test_published_rows_are_of_networks_trained_as_their_scale_says():
    shelf = {}  # the recipes of networks on the shelf, by the weights that were certified
    for path in (DOCS.parent / "model_cards").glob("*/certification/*/run.json"):
        config = read_config(path.parents[2])
        shelf[read_run(path.parent).identity["weights"]] = config["robust_hub"]["recipe"]
    rows = {
        (scale.name, row_name(r)): (r, scale) for scale in SCALES.values() for t in TABLES.values() for r in t.recipes
    }
    found = 0
    for (scale_name, name), (recipe, scale) in rows.items():
        for path in (DOCS / "results" / scale_name / "certified" / name).glob("*/run.json"):
            run = read_run(path.parent)
            assert other_training(run.recipe or shelf[run.identity["weights"]], recipe, scale) == "", path
            found += 1
    assert found == len(list((DOCS / "results").rglob("run.json"))) > 0


MARKS = [
    (script, line.removeprefix("<!-- end of ").removesuffix(" -->"))
    for script, (page, _) in PAGES.items()
    if (DOCS / page).exists()
    for line in (DOCS / page).read_text().splitlines()
    if line.startswith("<!-- end of ")
]


@pytest.mark.parametrize(("script", "mark"), MARKS)
def test_a_number_changed_by_hand_is_found(script, mark, tmp_path):
    page, records = PAGES[script]
    copy = tmp_path / "docs"
    copy.mkdir()
    text, end = (DOCS / page).read_text(), f"<!-- end of {mark} -->"
    (copy / page).write_text(text.replace(end, f"| by hand |\n{end}"))
    for file in (script, "pages.py"):
        shutil.copy(DOCS / file, copy)
    for record in records:
        (copy / record).symlink_to(DOCS / record)
    done = check(copy / script)
    assert done.returncode == 1
    assert f"docs/{page} is not what" in done.stderr
