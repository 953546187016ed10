"""Stored games as a Hugging Face dataset of chats with pictures, for any trainer that reads such.

`sft`: what was said by those who won, as `messages`. `preference`: a better and a worse reply to one and
the same prompt, as `prompt`, `chosen`, `rejected`. Content parts are `{"type": "image"}` and
`{"type": "text", "text": ...}`; `images` holds the pictures in the order of their parts.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vision_zero.errors import UserError
from vision_zero.runs.store import RunStore
from vision_zero.types import (
    ABSTAIN,
    JSON,
    Episode,
    Message,
    Picture,
    PicturePart,
    Role,
    Stage,
    StopReason,
    TextPart,
    Turn,
)

_ROWS_AT_ONCE = 256


@dataclass
class ExportedGames:
    """How many rows of each kind, and from how many games."""

    games: int = 0
    sft: int = 0
    preference: int = 0
    by_stage: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Scored:
    """A reply to a prompt that may come again, and how good it was. Higher is better."""

    where: JSON
    reply: str
    score: float


def export_games(store: RunStore, out: Path, command: str) -> ExportedGames:
    """Write `sft/*.parquet`, `preference/*.parquet` and a card; `load_dataset(out, "sft")` reads them.

    Preference pairs: of all replies to one prompt the best and the worst, if they differ in score and in
    words. A vote scores 1 for a spy, 0 for an abstention, -1 for a civilian, -2 unreadable; a clue scores its
    seat's reward. The same prompt comes again where a voter is asked several times, or where a pair is dealt
    again before anybody has spoken.

    Raises `UserError` if there are no games, if the folder is not empty, or without `datasets`.
    """
    try:
        import datasets
        import pyarrow.parquet as parquet
    except ImportError as e:
        raise UserError("writing datasets needs pyarrow and datasets: pip install 'vision-zero[data]'") from e
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: choose another folder for the games")
    if not store.steps():
        raise UserError(f"{store.path} holds no games yet: wait for its first step to end")
    unfinished = out.with_name(f".{out.name}.partial")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    for name in ("sft", "preference"):
        (unfinished / name).mkdir(parents=True)
    done = ExportedGames()
    features = _features(datasets)
    prompts: defaultdict[tuple[Message, ...], list[_Scored]] = defaultdict(list)
    with _Table(parquet, features["sft"], unfinished / "sft" / "train-00000.parquet") as table:
        for record in store.read_records():
            done.games += 1
            for turn in record.episode.turns:
                where = _where(record.step, record.episode, turn)
                if _is_won(record.episode, turn):
                    done.sft += 1
                    done.by_stage[f"sft/{turn.stage}"] += 1
                    table.add(_row(turn.shown) | {"messages": _messages(turn.shown, turn.utterance.text)} | where)
                score = _score(record.episode, turn)
                if score is not None:
                    prompts[turn.shown].append(_Scored(where, turn.utterance.text, score))
    with _Table(parquet, features["preference"], unfinished / "preference" / "train-00000.parquet") as table:
        for shown, replies in prompts.items():
            best, worst = max(replies, key=lambda r: r.score), min(replies, key=lambda r: r.score)
            if best.score == worst.score or best.reply == worst.reply:
                continue
            done.preference += 1
            done.by_stage[f"preference/{best.where['stage']}"] += 1
            table.add(
                _row(shown)
                | {"prompt": _messages(shown), "chosen": [_said(best.reply)], "rejected": [_said(worst.reply)]}
                | {"chosen_score": best.score, "rejected_score": worst.score}
                | best.where
            )
    (unfinished / "README.md").write_text(_card(store, done, command), encoding="utf-8")
    unfinished.rename(out)
    return done


class _Table:
    """A parquet file, written a few rows at a time; the file exists also if there are none."""

    def __init__(self, parquet: Any, features: Any, file: Path) -> None:
        self._features, self._schema = features, features.arrow_schema
        self._writer = parquet.ParquetWriter(file, self._schema)
        self._rows: list[JSON] = []

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        self._writer.close()

    def add(self, row: JSON) -> None:
        """Append a row that has every column."""
        self._rows.append(row)
        if len(self._rows) == _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        import pyarrow

        self._writer.write_table(pyarrow.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []


def _features(datasets: Any) -> dict[str, Any]:
    text, number = datasets.Value("string"), datasets.Value("float64")
    chat = datasets.List({"role": text, "content": datasets.List({"type": text, "text": text})})
    common = {
        "images": datasets.List(datasets.Image()),
        **dict.fromkeys(("episode", "pair", "stage", "role", "player", "version"), text),
        **dict.fromkeys(("step", "seat", "round"), datasets.Value("int64")),
    }
    preference = {"prompt": chat, "chosen": chat, "rejected": chat, "chosen_score": number, "rejected_score": number}
    return {"sft": datasets.Features({"messages": chat} | common), "preference": datasets.Features(preference | common)}


def _is_won(episode: Episode, turn: Turn) -> bool:
    """Whether a turn is worth imitating: read without a problem, of a seat that won; a vote must name a spy."""
    if turn.understood.problem or turn.utterance.stop is not StopReason.END_OF_TURN:
        return False
    if turn.stage is Stage.DECISION:
        return episode.outcome.civilians_win and turn.understood.vote in _spies(episode)
    assert turn.seat is not None
    return (episode.seats[turn.seat].role is Role.CIVILIAN) == episode.outcome.civilians_win


def _score(episode: Episode, turn: Turn) -> float | None:
    """None if nothing is known of how good a turn was: a clue of a game without rewards."""
    if turn.stage is Stage.DECISION:
        vote = turn.understood.vote
        if vote is None:
            return -2.0
        return 0.0 if vote == ABSTAIN else 1.0 if vote in _spies(episode) else -1.0
    return None if episode.rewards is None or turn.seat is None else episode.rewards[turn.seat]


def _spies(episode: Episode) -> set[Any]:
    return {seat.index for seat in episode.seats if seat.role is Role.SPY}


def _where(step: int, episode: Episode, turn: Turn) -> JSON:
    return {
        "episode": episode.id,
        "pair": episode.pair,
        "step": step,
        "seat": turn.seat,
        "role": None if turn.seat is None else episode.seats[turn.seat].role.value,
        "stage": turn.stage.value,
        "round": turn.round,
        "player": turn.player,
        "version": episode.versions.get(turn.player),
    }


def _row(shown: Sequence[Message]) -> JSON:
    pictures: list[Picture] = [p.picture for m in shown for p in m.parts if isinstance(p, PicturePart)]
    return {"images": [{"bytes": p.data, "path": p.sha} for p in pictures]}


def _messages(shown: Sequence[Message], reply: str | None = None) -> list[JSON]:
    chat = [{"role": m.role, "content": list(_content(m))} for m in shown]
    return chat if reply is None else [*chat, _said(reply)]


def _said(reply: str) -> JSON:
    return {"role": "assistant", "content": [{"type": "text", "text": reply}]}


def _content(message: Message) -> Iterator[JSON]:
    """Parts as chat templates want them; texts that follow each other are one."""
    text = ""
    for part in message.parts:
        if isinstance(part, TextPart):
            text += part.text
            continue
        if text:
            yield {"type": "text", "text": text}
        text = ""
        yield {"type": "image", "text": None}
    if text:
        yield {"type": "text", "text": text}


def _card(store: RunStore, done: ExportedGames, command: str) -> str:
    config = store.config
    kinds = [kind for kind in ("sft", "preference") if getattr(done, kind)]
    head = {
        "pretty_name": f"Games of {config.name}",
        "configs": [
            {"config_name": kind, "data_files": [{"split": "train", "path": f"{kind}/*.parquet"}]} for kind in kinds
        ],
        "tags": ["vision-zero", "self-play", "image-text-to-text"],
    }
    rows = [
        f"| {kind} | {getattr(done, kind)} | {done.by_stage[f'{kind}/clue']} | {done.by_stage[f'{kind}/decision']} |"
        for kind in kinds
    ]
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        f"# Games of {config.name}",
        "",
        f"{done.games} games of who-is-the-spy, played in self-play on pairs of kind `{config.pairs.kind}`.",
        "No human wrote or rated anything here: scores come from the rules of the game.",
        "",
        "| kind | rows | clues | votes |",
        "|---|---|---|---|",
        *rows,
        "",
        "- `sft`: clues of the side that won, and votes that named the spy in games that the civilians won.",
        "- `preference`: the best and the worst of several replies to one prompt. A vote scores 1 for a spy, 0 for an",
        "  abstention, -1 for a civilian, -2 if it cannot be read; a clue scores its seat's reward.",
        "",
        f"Made with `{command}`. Software: {json.dumps(store.info['versions'])}.",
        "",
    ]
    return "\n".join(lines)
