"""The command that serves the demo page: app."""

from __future__ import annotations

import threading

import click

from robust_hub.cli.completion import complete_model
from robust_hub.cli.output import note


@click.command()
@click.option(
    "--model",
    metavar="NAME|FOLDER",
    shell_complete=complete_model,
    help="The checkpoint to begin with [default: the small one for CIFAR-10].",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 lets others in.")
@click.option("--port", default=7860, show_default=True, help="Port to listen at; 0 takes any that is free.")
@click.option("--open/--no-browser", "browser", default=False, help="Open the page in a browser [default: no].")
def app(model: str | None, host: str, port: int, browser: bool) -> None:
    """Certify pictures on a page in the browser: served here until Ctrl-C, without any other machine.

    Example: robust-hub app --open
    """
    note("starting the page, which takes some seconds")
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise ImportError("expected Gradio for the page, got none: pip install 'robust-hub[app]'") from None
    from robust_hub.app.serve import serve

    with serve(model, host=host, port=port, browser=browser) as address:
        click.echo(f"{address} (Ctrl-C ends it)")
        threading.Event().wait()
