"""A person at the terminal."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from vision_zero.errors import UserError
from vision_zero.games.base import Ask
from vision_zero.games.cleaning import clean
from vision_zero.games.speech import read_clue, read_vote
from vision_zero.players.encoding import media_type
from vision_zero.types import Picture, Stage, StopReason, Utterance


class HumanPlayer:
    """Shows what the seat may know, and reads one line; asks again until the line is an answer.

    Clues are at most `most_characters` long: others would hear no more. Pictures are written to `folder` (default:
    a new temporary folder) for the person's own viewer.
    """

    def __init__(
        self,
        name: str = "human",
        console: Console | None = None,
        read_line: Callable[[], str] = input,
        folder: Path | None = None,
        most_characters: int | None = None,
    ) -> None:
        self.name = name
        self.version = "human"
        self._console = console or Console()
        self._read_line = read_line
        self._folder = folder or Path(tempfile.mkdtemp(prefix="vision-zero-"))
        self._most_characters = most_characters

    def respond(self, asks: Sequence[Ask]) -> list[Utterance]:
        """One utterance an ask, in order. Raises `UserError` when the input ends."""
        return [self._respond(ask) for ask in asks]

    def _respond(self, ask: Ask) -> Utterance:
        self._console.print(self._screen(ask))
        while True:
            self._console.print("> ", end="")
            try:
                return typed(ask, self._read_line(), self._most_characters)
            except EOFError as e:
                raise UserError("the input ended in the middle of a game: play in a terminal") from e
            except NotAnAnswer as e:
                self._console.print(Text(f"That will not do: {e}.", style="red"))

    def _screen(self, ask: Ask) -> Panel:
        view = ask.view
        lines = Text()
        pictures = (view.picture, *view.more_pictures)
        for number, picture in enumerate(pictures, 1):
            label = "Your picture" if len(pictures) == 1 else f"Picture {number}"
            lines.append(f"{label}: {self._write(picture)}\n", style="bold")
        for clue in view.clues:
            lines.append(f"Round {clue.round}, player {clue.seat + 1}: {clue.text or '(no clue)'}\n")
        if ask.stage is Stage.CLUE:
            lines.append("Your clue, one sentence:")
        else:
            lines.append(f"Your choice, 1 to {choices(ask)}, or n/a:")
        title = "You are the judge" if view.seat is None else f"You are player {view.seat + 1}, {view.role}"
        return Panel(lines, title=f"{title} · {ask.stage.value} {ask.round}")

    def _write(self, picture: Picture) -> Path:
        path = self._folder / f"{picture.sha[:12]}.{media_type(picture).rpartition('/')[2]}"
        path.write_bytes(picture.data)
        return path


class NotAnAnswer(Exception):
    """What somebody typed answers nothing; says why, for that person to try again."""


def typed(ask: Ask, text: str, most_characters: int | None = None) -> Utterance:
    """What a person typed as an utterance, marked the way the referee expects it from every player of this game.

    Raises `NotAnAnswer` if the referee could not read it, or would cut it off.
    """
    line = clean(text)
    if ask.stage is Stage.CLUE:
        problem = read_clue(line, boxed=False, max_characters=len(line)).problem
        if most_characters is not None and len(line) > most_characters:
            problem = f"{len(line)} characters, and others hear only {most_characters}"
    else:
        problem = read_vote(line, boxed=False, choices=choices(ask)).problem
    if problem is not None:
        raise NotAnAnswer(problem)
    return Utterance(rf"\boxed{{{line}}}" if ask.boxed else line, StopReason.END_OF_TURN)


def choices(ask: Ask) -> int:
    """How many things a vote can name: seats, or pictures where several are shown."""
    return 1 + len(ask.view.more_pictures) if ask.view.more_pictures else ask.view.seats
