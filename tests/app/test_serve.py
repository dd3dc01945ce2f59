"""The command and its port."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import robust_hub
from robust_hub.cli.main import main


def test_without_gradio_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    done = CliRunner().invoke(main, ["app"])
    assert done.exit_code == 2 and "pip install 'robust-hub[app]'" in done.output


@pytest.mark.full
def test_a_port_that_is_taken_is_a_sentence() -> None:
    pytest.importorskip("gradio", reason="needs Gradio: pip install 'robust-hub[app]'")
    from robust_hub.app.serve import serve

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"expected a free port, got {port} at 127.0.0.1 .* another --port"):
            serve(port=port).__enter__()
    with pytest.raises(ValueError, match="expected a port from 0 to 65535, got 70000"):
        serve(port=70000).__enter__()


@pytest.mark.full
def test_uploads_go_with_the_page_and_a_proxy_is_not_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio", reason="needs Gradio: pip install 'robust-hub[app]'")
    import httpx2

    from robust_hub.app.serve import serve

    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serve(port=0) as address:
        sent = httpx2.post(f"{address}gradio_api/upload", files={"files": ("mine.png", b"a picture")}, trust_env=False)
        kept = Path(sent.json()[0])
        assert kept.read_bytes() == b"a picture"
        private = next(one for one in kept.parents if one.name.startswith("robust-hub-app-"))
        assert private.stat().st_mode & 0o077 == 0
    assert not private.exists() and "GRADIO_TEMP_DIR" not in os.environ


def test_nothing_else_imports_gradio() -> None:
    package = Path(robust_hub.__file__).parent
    sources = {path.relative_to(package).as_posix(): path.read_text() for path in package.rglob("*.py")}
    assert {name for name, source in sources.items() if "import gradio" in source} == {
        *("app/handlers.py", "app/page.py", "cli/app.py")
    }
    users = {name for name, source in sources.items() if re.search(r"robust_hub\.app\.(handlers|page|serve)", source)}
    assert users == {"app/page.py", "app/serve.py", "cli/app.py"}
    code = (
        "import sys, robust_hub.cli.main\nprint(sorted({'gradio', 'pandas', 'fastapi', 'torch'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[]", done.stderr
