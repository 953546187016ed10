"""The page as a folder that opens without a server, to share: the same files, and the same data as scripts.

A browser lets a page that was opened from disk load no JSON, but scripts. So each JSON value is written as
`deliver(ADDRESS, VALUE);` under the address that the server would have it at.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vision_zero.errors import UserError
from vision_zero.runs.serialise import dumps
from vision_zero.viewer.library import Library, RunReader
from vision_zero.viewer.server import index_of_kind, page_files

POLICY = "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file:; base-uri 'none'"


def export(library: Library, folder: Path, say: Callable[[str], None]) -> None:
    """Write everything into `folder`, new or empty, and tell of each run. Raises UserError if it holds anything."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty: choose another --static folder")
    page = folder / "page"
    page.mkdir(parents=True)
    for name, data in page_files().items():
        if name == "index.html":
            (folder / name).write_text(_static_index(data.decode()), encoding="utf-8")
        else:
            (page / name).write_bytes(data)
    readers = library.readers()
    _deliver(folder, "runs", [reader.summary() for reader in readers])
    for reader in readers:
        games = _export_run(folder, reader)
        say(f"{reader.name}: {games} games")


def _export_run(folder: Path, reader: RunReader) -> int:
    at, games = f"runs/{reader.name}", 0
    overview = reader.overview()
    _deliver(folder, f"{at}/overview", overview)
    pictures = folder / "data" / at / "pictures"
    pictures.mkdir(parents=True)
    for step in overview["with_games"]:
        rows = reader.games(step)
        _deliver(folder, f"{at}/games/{step}", rows)
        for number in range(len(rows)):
            game = reader.game(step, number)
            _deliver(folder, f"{at}/games/{step}/{number}", game)
            for sha in {seat["picture"] for seat in game["seats"]}:
                if not (pictures / sha).exists():
                    (pictures / sha).write_bytes(reader.picture(sha).data)
        games += len(rows)
    return games


def _deliver(folder: Path, address: str, value: Any) -> None:
    path = folder / "data" / f"{address}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    # the address as the page asks for it: each part as JavaScript's encodeURIComponent writes it
    asked = "/".join(quote(part, safe="!*'()") for part in address.split("/"))
    path.write_text(f"deliver({dumps(asked)},{dumps(value)});\n", encoding="utf-8")


def _static_index(page: str) -> str:
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    return index_of_kind(page, "static").replace("<title>", f"{policy}\n<title>")
