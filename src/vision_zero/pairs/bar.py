"""A progress bar for long work on pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Item = TypeVar("Item")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def with_bar(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a bar on the error stream that shows how many are done, their rate and the time left.

    `total` is how many there will be, where the items cannot say so themselves. Nothing is shown where nobody
    watches (no terminal).
    """
    with progress(what) as bar:
        yield from bar.track(items, total=total)


def progress(what: str) -> Progress:
    """Such a bar, for work that is not a walk through items. Use as a context."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
