"""A stored game, told in the terminal, with its pictures written as thumbnails."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps
from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from vision_zero.types import ABSTAIN, Change, Episode, Picture, Role, Stage, Turn

Ending = Literal["caught", "escaped", "tie"]

_SIDE = 320
"""Pixels of the longer side of a thumbnail."""
_GAP = 8
_STYLES = {Role.CIVILIAN: "bold green", Role.SPY: "bold red"}


def ending(episode: Episode) -> Ending:
    """How a game ended: the accused was a spy, the accused was none, or nobody had strictly most votes."""
    if episode.outcome.accused is None:
        return "tie"
    return "caught" if episode.outcome.civilians_win else "escaped"


def render_episode(
    episode: Episode, console: Console, thumbnails_dir: Path, changes: Sequence[Change] | None = None
) -> list[Path]:
    """Print one game: seats, clues in the order spoken with private thoughts dimmed, votes, outcome, rewards.

    Writes a thumbnail of each seat's picture and one of the pair side by side (the civilians' left, the
    spy's right) into `thumbnails_dir`, prints their paths and returns them, the pair last.
    """
    console.print(Rule(Text(f"game {episode.id}: {_safe(episode.game)} on {_safe(episode.pair)}")))
    for change in changes or ():
        console.print(_line(("differs: ", "dim"), f"{change.what}: {_words(change.before)} -> {_words(change.after)}"))
    for seat in episode.seats:
        text = _line((f"player {seat.index + 1} ", "bold"), (f"{seat.role}", _STYLES[seat.role]))
        text.append(f"  {_safe(seat.player)} {_safe(episode.versions.get(seat.player, ''))}".rstrip(), "dim")
        if episode.rewards is not None:
            text.append(f"  reward {episode.rewards[seat.index]:+.3f}")
        console.print(text)
    heading = ""
    for index, turn in enumerate(episode.turns):
        new = f"round {turn.round}" if turn.stage is Stage.CLUE else "votes"
        if new != heading:
            heading = new
            console.print(Text(f"\n{heading}", style="bold underline"))
        advantage = None if episode.advantages is None else episode.advantages[index]
        _print_turn(episode, turn, advantage, console)
    console.print()
    console.print(_verdict(episode))
    paths = _thumbnails(episode, thumbnails_dir)
    console.print(Text(f"pictures: {paths[-1]} (civilian, spy)", style="dim"), soft_wrap=True)
    for path in paths[:-1]:
        console.print(Text(f"          {path}", style="dim"), soft_wrap=True)
    return paths


def _print_turn(episode: Episode, turn: Turn, advantage: float | None, console: Console) -> None:
    if turn.understood.thought:
        console.print(Padding(Text(_safe(turn.understood.thought), style="dim italic"), (0, 0, 0, 4)))
    text = Text("  ")
    if turn.seat is None:
        text.append("analyst", "bold")
    else:
        text.append(f"player {turn.seat + 1}", _STYLES[episode.seats[turn.seat].role])
    text.append(": ")
    if turn.stage is Stage.CLUE:
        text.append(_safe(turn.understood.clue) if turn.understood.clue is not None else "(no clue)")
    elif turn.understood.vote is None:
        text.append("invalid vote")
    elif turn.understood.vote == ABSTAIN:
        text.append("abstains (N/A)")
    else:
        text.append(f"accuses player {int(turn.understood.vote) + 1}")
    if turn.understood.problem is not None:
        text.append(f"  [{_safe(turn.understood.problem)}; said: {_safe(turn.utterance.text)!r}]", "yellow")
    if advantage is not None:
        text.append(f"  advantage {advantage:+.3f}", "dim")
    console.print(text)


def _verdict(episode: Episode) -> Text:
    outcome = episode.outcome
    spies = ", ".join(str(s.index + 1) for s in episode.seats if s.role is Role.SPY)
    votes = ", ".join(f"{v:g} against player {k + 1}" for k, v in enumerate(outcome.votes_received) if v)
    text = Text(f"votes: {votes or 'none valid'}")
    text.append(f"; N/A {outcome.abstained:g}, invalid {outcome.invalid:g}, voters {outcome.voters}\n")
    sentence = {
        "tie": f"nobody is accused: spy {spies} gets away",
        "caught": f"player {(outcome.accused or 0) + 1} is accused: the spy is caught",
        "escaped": f"player {(outcome.accused or 0) + 1} is accused: spy {spies} gets away",
    }[ending(episode)]
    return text.append(sentence, "bold green" if outcome.civilians_win else "bold red")


def _thumbnails(episode: Episode, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seat in episode.seats:
        paths.append(folder / f"{episode.id}-player{seat.index + 1}-{seat.role}.png")
        _thumbnail(seat.picture).save(paths[-1])
    by_role = sorted(episode.seats, key=lambda seat: list(Role).index(seat.role))
    shown = [_thumbnail(p) for p in {seat.picture.sha: seat.picture for seat in by_role}.values()]
    pair = Image.new("RGB", (sum(t.width + _GAP for t in shown) - _GAP, max(t.height for t in shown)), "white")
    left = 0
    for thumbnail in shown:
        pair.paste(thumbnail, (left, 0))
        left += thumbnail.width + _GAP
    paths.append(folder / f"{episode.id}-pair.png")
    pair.save(paths[-1])
    return paths


def _thumbnail(picture: Picture) -> Image.Image:
    """Scaled up or down, so that the pictures of the tiny model can be looked at too."""
    with Image.open(io.BytesIO(picture.data)) as image:
        return ImageOps.contain(image.convert("RGB"), (_SIDE, _SIDE))


def _words(values: object) -> str:
    return _safe(" ".join(f"{k}={v}" for k, v in dict(values).items()) if isinstance(values, dict) else str(values))


def _line(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble(*parts)


def _safe(text: str) -> str:
    """What a player said may hold escape codes or text-direction marks: they are shown, not obeyed."""
    return "".join(
        c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else f"\\u{ord(c):04x}" for c in text
    )
