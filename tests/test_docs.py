import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "docs" / "make_tables.py"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="the documentation is not part of this copy")


def check(script: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True)


def test_published_tables_are_those_of_the_records():
    done = check(SCRIPT)
    assert done.returncode == 0, done.stderr


def test_a_number_changed_by_hand_is_found(tmp_path):
    page = (ROOT / "docs" / "small-checkpoint.md").read_text()
    (tmp_path / "small-checkpoint.md").write_text(page.replace("<!-- records -->", "<!-- records -->\n| by hand |"))
    (tmp_path / "make_tables.py").write_text(SCRIPT.read_text())
    (tmp_path / "evidence").symlink_to(ROOT / "docs" / "evidence")
    done = check(tmp_path / "make_tables.py")
    assert done.returncode == 1
    assert "run docs/make_tables.py" in done.stderr
