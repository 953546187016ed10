"""`vision-zero view`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from vision_zero.errors import UserError

Host = Annotated[str, typer.Option(help="Address to listen on. Beyond this machine a token is asked for.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
Token = Annotated[
    str | None, typer.Option(help="Ask for this token.", show_default="none; a new one beyond this machine")
]


def view(
    path: Annotated[Path, typer.Argument(metavar="[RUN]", help="A run directory, or a folder of runs.")] = Path("runs"),
    host: Host = "127.0.0.1",
    port: Port = 8321,
    token: Token = None,
    static: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the page as a folder that opens without a server, and end."),
    ] = None,
) -> None:
    """Look at runs in the browser: curves, stages, every game with its pictures. Live while they train.

    Nothing is sent anywhere: the page is served from this machine and loads nothing from elsewhere.
    """
    require_server(token)
    from vision_zero.viewer.export import export
    from vision_zero.viewer.library import Library
    from vision_zero.viewer.server import make_app, serve

    if not path.exists():
        raise UserError(f"{path} does not exist: give a run directory, or a folder of runs")
    library = Library(path)
    if static is not None:
        export(library, static, typer.echo)
        typer.echo(f"open {static / 'index.html'} in a browser")
    else:
        serve(
            lambda token: make_app(library, token, host),
            host,
            port,
            token,
            lambda address: typer.echo(f"{address}\nCtrl-C stops"),
        )


def require_server(token: str | None) -> None:
    """Raises `UserError` if the page cannot be served, or not with such a token."""
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} is not installed: pip install 'vision-zero[view]'")
    if token is not None and not token.isascii():
        raise UserError("--token must be of ASCII characters: it travels in an address")
    if token == "":
        raise UserError("--token is empty: leave it out, or give one")
