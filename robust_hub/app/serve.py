"""The page on a port of this machine, until it is stopped."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from robust_hub.app.networks import choices
from robust_hub.app.page import CSS, THEME, build_page
from robust_hub.app.upload import MOST_BYTES

_UPLOADS = "GRADIO_TEMP_DIR"  # of Gradio's: where it keeps what is uploaded and what can be downloaded


@contextmanager
def serve(
    model: str | None = None, *, host: str = "127.0.0.1", port: int = 7860, browser: bool = False
) -> Iterator[str]:
    """Serve the page while the context lasts; nothing is asked of any other machine.

    Args:
        model: The checkpoint to begin with, a name or a folder.
        host: Address to listen at; "0.0.0.0" lets other machines in.
        port: Port to listen at; 0 takes any that is free.
        browser: Whether to open the page in a browser.

    Yields:
        The page's address.

    Raises:
        ValueError: If the port is taken, or there is no such checkpoint.
    """
    port = _check_port(host, port)
    with tempfile.TemporaryDirectory(prefix="robust-hub-app-") as folder, _surroundings(host, folder):
        page = build_page(choices(model), Path(folder))
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            inbrowser=browser,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=MOST_BYTES,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            run_history=False,
            footer_links=[],
            theme=THEME,
            css_paths=CSS,
        )
        try:
            yield address
        finally:
            page.close(verbose=False)


@contextmanager
def _surroundings(host: str, folder: str) -> Iterator[None]:
    """Have Gradio keep uploads in a folder of the page's own, and ask no proxy whether it is up.

    By default uploads stay, for all users of the machine to read, in a folder that outlives the page; and Gradio's look
    at its own address goes through the proxy that HTTP_PROXY names, which knows no localhost.
    """
    near = ("localhost", "127.0.0.1", "::1", host)
    wanted = {name: ",".join(filter(None, (os.environ.get(name), *near))) for name in ("NO_PROXY", "no_proxy")}
    wanted[_UPLOADS] = os.environ.get(_UPLOADS) or str(Path(folder, "uploads"))
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _check_port(host: str, port: int) -> int:
    """Give the port, or a free one for 0; refuse one at which something listens."""
    if not 0 <= port <= 65535:
        raise ValueError(f"expected a port from 0 to 65535, got {port}: 7860 is usual")
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise ValueError(
            f"expected a free port, got {port} at {host} ({error.strerror or error}): pass another --port, or 0 for any"
        ) from None
