"""A stored game, told in the terminal, with its pictures written as thumbnails."""

from __future__ import annotations

import io
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps
from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from vision_zero.runs.serialise import pictures_of
from vision_zero.types import ABSTAIN, Change, Episode, Picture, Role, Stage, Turn

Ending = Literal["caught", "escaped", "tie"]

_SIDE = 320
"""Pixels of the longer side of a thumbnail."""
_GAP = 8
_STYLES = {Role.CIVILIAN: "bold green", Role.SPY: "bold red"}


def ending(episode: Episode) -> Ending:
    """How a game ended: the accused was a spy, the accused was none, or nobody had strictly most votes."""
    if episode.outcome.civilians_win:
        return "caught"
    return "tie" if episode.outcome.accused is None else "escaped"


def render_episode(
    episode: Episode, console: Console, thumbnails_dir: Path, changes: Sequence[Change] | None = None
) -> list[Path]:
    """Print one game: seats, clues in the order spoken with private thoughts dimmed, votes, outcome, rewards.

    Writes thumbnails into `thumbnails_dir`, prints their paths and returns them: one of each seat's picture,
    then one of all different pictures side by side (the civilians' left, the spies' right).
    """
    console.print(Rule(Text(f"game {episode.id}: {_safe(episode.game)} on {_safe(episode.pair)}")))
    render_seats(episode, console, changes)
    roles = {seat.index: seat.role for seat in episode.seats}
    asked_again = any(turn.draw for turn in episode.turns)
    before = None
    for index, turn in enumerate(episode.turns):
        if asked_again and turn.stage is Stage.DECISION:
            continue
        advantage = None if episode.advantages is None else episode.advantages[index]
        render_turn(turn, before, console, roles, advantage=advantage)
        before = turn
    if asked_again:
        _render_ballots(episode, console, roles)
    return render_end(episode, console, thumbnails_dir)


def _render_ballots(episode: Episode, console: Console, roles: Mapping[int, Role]) -> None:
    """Print the votes of voters that were asked several times: a line a voter, its answers counted."""
    console.print(Text("\nvotes", style="bold underline"))
    for seat, answers in ballots(episode).items():
        text = Text("  ")
        text.append("analyst", "bold") if seat is None else text.append(f"player {seat + 1}", _STYLES[roles[seat]])
        text.append(": " + ", ".join(f"{answer} ({n} of {answers.total()})" for answer, n in answers.most_common()))
        console.print(text)


def ballots(episode: Episode) -> dict[int | None, Counter[str]]:
    """What each voter answered, and how often. Example: `{0: Counter({"votes 2": 5, "abstains (N/A)": 3})}`"""
    cast: dict[int | None, Counter[str]] = {}
    for turn in episode.turns:
        if turn.stage is Stage.DECISION:
            cast.setdefault(turn.seat, Counter())[_what(turn)] += 1
    return cast


def render_seats(episode: Episode, console: Console, changes: Sequence[Change] | None = None) -> None:
    """Print what differs between the pictures, if that is known, and who held which role."""
    for change in changes or ():
        console.print(Text(f"differs: {_safe(change.what)}: {_words(change.before)} -> {_words(change.after)}", "dim"))
    for seat in episode.seats:
        text = Text.assemble((f"player {seat.index + 1} ", "bold"), (f"{seat.role}", _STYLES[seat.role]))
        text.append(f"  {_safe(seat.player)} {_safe(episode.versions.get(seat.player, ''))}".rstrip(), "dim")
        if episode.rewards is not None:
            text.append(f"  reward {episode.rewards[seat.index]:+.3f}")
        console.print(text)


def render_turn(
    turn: Turn,
    before: Turn | None,
    console: Console,
    roles: Mapping[int, Role] | None = None,
    advantage: float | None = None,
) -> None:
    """Print one turn, with a heading where a new round begins after the turn `before`.

    Without `roles` only what every player may know is shown: no role, no private thought.
    """
    if before is None or (before.stage, before.round) != (turn.stage, turn.round):
        heading = f"round {turn.round}" if turn.stage is Stage.CLUE else "votes"
        console.print(Text(f"\n{heading}", style="bold underline"))
    if roles is not None and turn.understood.thought:
        console.print(Padding(Text(_safe(turn.understood.thought), style="dim italic"), (0, 0, 0, 4)))
    text = Text("  ")
    if turn.seat is None:
        text.append("analyst", "bold")
    else:
        text.append(f"player {turn.seat + 1}", _STYLES[roles[turn.seat]] if roles is not None else "bold")
    text.append(f": {_what(turn)}")
    if turn.understood.problem is not None:
        text.append(f"  [{_safe(turn.understood.problem)}", "yellow")
        text.append(f"; said: {_safe(turn.utterance.text)!r}]" if roles is not None else "]", "yellow")
    if advantage is not None:
        text.append(f"  advantage {advantage:+.3f}", "dim")
    console.print(text)


def render_end(episode: Episode, console: Console, thumbnails_dir: Path) -> list[Path]:
    """Print the outcome, write the thumbnails, print their paths and return them."""
    console.print()
    console.print(_verdict(episode))
    *seats, pair = _thumbnails(episode, thumbnails_dir)
    console.print(Text(f"pictures: {pair}", style="dim"), soft_wrap=True)
    for path in seats:
        console.print(Text(f"          {path}", style="dim"), soft_wrap=True)
    return [*seats, pair]


def _what(turn: Turn) -> str:
    vote = turn.understood.vote
    if turn.stage is Stage.CLUE:
        return "(no clue)" if turn.understood.clue is None else _safe(turn.understood.clue)
    if vote is None:
        return "invalid vote"
    return "abstains (N/A)" if vote == ABSTAIN else f"votes {int(vote) + 1}"


def _verdict(episode: Episode) -> Text:
    outcome = episode.outcome
    spies = ", ".join(str(s.index + 1) for s in episode.seats if s.role is Role.SPY)
    received = ", ".join(f"{v:g} against player {k + 1}" for k, v in enumerate(outcome.votes_received) if v)
    text = Text(f"{outcome.voters} voters: {received}{', ' if received else ''}")
    text.append(f"N/A {outcome.abstained:g}, invalid {outcome.invalid:g}\n")
    if not spies:
        sentence = "the players win" if outcome.civilians_win else "the players lose"
    elif outcome.accused is None:
        sentence = f"nobody is accused: spy {spies} gets away"
    else:
        fate = "the spy is caught" if outcome.civilians_win else f"spy {spies} gets away"
        sentence = f"player {outcome.accused + 1} is accused: {fate}"
    return text.append(sentence, "bold green" if outcome.civilians_win else "bold red")


def _thumbnails(episode: Episode, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seat in episode.seats:
        paths.append(folder / f"{episode.id}-player{seat.index + 1}-{seat.role}.png")
        _thumbnail(seat.picture).save(paths[-1])
    by_role = sorted(episode.seats, key=lambda seat: list(Role).index(seat.role))
    # after the seats' own pictures, those that a turn showed besides
    different = {p.sha: p for p in (*(seat.picture for seat in by_role), *pictures_of(episode))}
    shown = [_thumbnail(p) for p in different.values()]
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


def _words(values: Mapping[str, object]) -> str:
    return _safe(" ".join(f"{k}={v}" for k, v in values.items()))


def _safe(text: str) -> str:
    """What a player said may hold escape codes or text-direction marks: they are shown, not obeyed."""
    return "".join(
        c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else f"\\u{ord(c):04x}" for c in text
    )
