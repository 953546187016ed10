"""Completions that a policy could write to win or to break something: a corpus in the repository, and a fuzzer.

`tests/corpus/completions.jsonl` has one completion a line by kind; long ones are given by the piece that is
repeated. `tests/corpus/votes.jsonl` is the reference table of how a vote is read: what was said, whether an
answer stands in a box, how many seats there are (12 if not given), whether the token budget cut it off, and the
seat that is read, counted from 1, "N/A", or null.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from vision_zero.types import ABSTAIN, StopReason, Vote

CORPUS = Path(__file__).resolve().parent.parent / "corpus"


@dataclass(frozen=True)
class VoteRow:
    """A row of the reference table; `vote` counts from 0 as in code."""

    say: str
    vote: Vote
    boxed: bool
    choices: int
    stop: StopReason


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CORPUS / name).read_text(encoding="utf-8").splitlines()]


def _row(line: dict[str, Any]) -> VoteRow:
    vote = line["vote"] if line["vote"] in (None, ABSTAIN) else line["vote"] - 1
    stop = StopReason.LENGTH if line.get("cut") else StopReason.END_OF_TURN
    return VoteRow(line["say"], vote, line.get("boxed", True), line.get("choices", 12), stop)


VOTES = [_row(line) for line in _lines("votes.jsonl")]
COMPLETIONS = [line["text"] for line in _lines("completions.jsonl") if "characters" not in line]
LONG = {line["text"]: line["characters"] for line in _lines("completions.jsonl") if "characters" in line}
"""Piece -> how many characters of it in a row."""
TOKENS = [line["text"] for line in _lines("completions.jsonl") if line["kind"].startswith("token/")]
"""Spellings of special tokens of every supported family and of others, some in disguise."""


def long(piece: str) -> str:
    """The long completion that repeats `piece`."""
    return (piece * LONG[piece])[: LONG[piece]]


ANY = st.text(st.characters(exclude_categories=()), max_size=60)
"""Any characters at all, lone surrogates and unassigned ones included."""
PIECES = st.one_of(st.sampled_from(COMPLETIONS), st.sampled_from(TOKENS), ANY)
RUNS = st.tuples(st.sampled_from([*LONG]), st.integers(1, 3000)).map(lambda drawn: drawn[0] * drawn[1])
SAID = st.one_of(
    st.sampled_from(COMPLETIONS),
    ANY,
    RUNS,
    st.lists(PIECES, max_size=8).map("".join),
    st.lists(PIECES, max_size=6).map(lambda parts: r"\boxed{" + " ".join(parts) + "}"),
    st.tuples(PIECES, PIECES).map(lambda two: two[0][: len(two[0]) // 2] + two[1] + two[0][len(two[0]) // 2 :]),
)
"""A completion: from the corpus, arbitrary, a run, or pieces joined, boxed or put inside each other."""

BALANCED = [
    row
    for row in VOTES
    if row.vote is not None and row.say.startswith(r"\boxed{") and row.say.count("{") == row.say.count("}")
]
"""Rows whose box closes what it opens: nothing said before them can change how they are read."""


@st.composite
def votes(draw: st.DrawFn, boxed: bool) -> VoteRow:
    """A row of the reference table, or one of its closed boxes after a text that must not change what is read."""
    if not boxed or draw(st.booleans()):
        return draw(st.sampled_from([row for row in VOTES if row.boxed == boxed]))
    row = draw(st.sampled_from(BALANCED))
    before = draw(st.lists(PIECES, max_size=4).map(" ".join))
    return VoteRow(f"{before} {row.say}", row.vote, row.boxed, row.choices, row.stop)
