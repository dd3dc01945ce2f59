import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from robust_hub.models.shelves import checkpoint_folder, list_checkpoints
from robust_hub.paper.experiment import Experiment
from robust_hub.paper.recorded import read_shelved
from robust_hub.paper.rows import SCALES, SIGMAS
from robust_hub.paper.tables import TABLES
from robust_hub.publishing.evidence import certification

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "tools"
MAKERS = (  # of what stands between marks; make_results makes its page whole, see test_results_page.py
    *("make_tables", "make_training", "make_readme", "make_throughput", "make_attack", "make_trust"),
    *("make_read", "make_choose", "make_home", "make_own_data", "simulate_plans"),
)
PARTS = re.compile(r"(<!-- (?!end of )(.+?) -->\n).*?(?=<!-- end of \2 -->)", flags=re.DOTALL)

pytestmark = pytest.mark.skipif(not TOOLS.exists(), reason="the tools are not part of this copy")


if TOOLS.exists():
    from pages import fill


def run(script: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True)


@pytest.mark.parametrize("maker", MAKERS)
def test_published_numbers_are_those_of_the_records(maker):
    """What stands between a page's marks, taken out, comes back from the records as it was."""
    made = importlib.import_module(maker)
    text, parts = made.PAGE.read_text(), made.parts()
    emptied, count = PARTS.subn(r"\1by hand\n", text)
    assert count == text.count("<!-- end of ") == len(parts) > 0
    assert fill(emptied, parts) == text, f"python tools/{maker}.py"


@pytest.mark.full
@pytest.mark.parametrize("maker", [*MAKERS, "make_results"])
def test_each_tool_runs_from_anywhere(maker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(TOOLS / f"{maker}.py", "--check")
    assert done.returncode == 0, done.stderr


def test_docs_hold_pages_and_evidence_alone():
    rest = [path for path in (ROOT / "docs").iterdir() if path.suffix not in (".md", ".png", ".svg")]
    assert {path.name for path in rest} == {"evidence", "api", "site.css"}
    assert {path.suffix for path in (ROOT / "docs" / "api").iterdir()} == {".md"}


def test_a_number_changed_by_hand_is_found(tmp_path):
    shutil.copy(TOOLS / "pages.py", tmp_path)
    (tmp_path / "make.py").write_text(
        "from pathlib import Path; from pages import write_or_check\n"
        "write_or_check(Path(__file__).with_name('page.md'), {'a': '1 %', 'b': '2 %'}, 'make.py')"
    )
    page = tmp_path / "page.md"
    text = "<!-- a -->\n1 %\n<!-- end of a -->\nwords\n<!-- b -->\n2 %\n<!-- end of b -->\n"
    page.write_text(text)
    assert run(tmp_path / "make.py", "--check").returncode == 0
    for old, new in (("1 %", "1.5 %"), ("2 %", "2 % and more")):
        page.write_text(text.replace(old, new))
        done = run(tmp_path / "make.py", "--check")
        assert done.returncode == 1 and "page.md is not what its records say: run make.py" in done.stderr
        assert page.read_text() != text
        assert run(tmp_path / "make.py").returncode == 0 and page.read_text() == text


def test_every_network_with_all_sigmas_is_one_row_and_every_row_one_network():
    rows = {row.name: row for table in TABLES.values() for row in table.rows}
    matches = {
        (scale.name, name): [recorded.checkpoint for recorded in read_shelved(Experiment(row, scale))]
        for scale in SCALES.values()
        for name, row in rows.items()
    }
    assert {key: names for key, names in matches.items() if len(names) > 1} == {}
    used = {name for names in matches.values() for name in names}
    certified = {name: certification(checkpoint_folder(name)) for name in list_checkpoints()}
    papers = {row.dataset for row in rows.values()}
    complete = {
        name
        for name, runs in certified.items()
        if {run.sigma for run in runs if Path(str(run.identity["data"])).name in papers} >= set(SIGMAS)
    }
    assert used == complete and len(used) > 20
