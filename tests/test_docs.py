import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
