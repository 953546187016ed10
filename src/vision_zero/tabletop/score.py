"""How a person has done in stored games."""

from __future__ import annotations

from vision_zero.runs.replay import ending
from vision_zero.runs.store import RunStore
from vision_zero.types import JSON, Role, Stage


def score(store: RunStore, player: str) -> JSON:
    """Games by role, won and lost, and how often a civilian's vote named a spy.

    Example: `{"civilian": {"played": 3, "won": 2, "named": 1}, "spy": {"played": 1, "won": 1}, "games": [{"step": 0,
    "role": "spy", "won": True, "ending": "tie"}, …]}`
    """
    civilian, spy = {"played": 0, "won": 0, "named": 0}, {"played": 0, "won": 0}
    games = []
    for record in store.read_records():
        episode = record.episode
        seat = next((s for s in episode.seats if s.player == player), None)
        if seat is None:
            continue
        won = episode.outcome.civilians_win == (seat.role is Role.CIVILIAN)
        mine = civilian if seat.role is Role.CIVILIAN else spy
        mine["played"] += 1
        mine["won"] += won
        spies = {s.index for s in episode.seats if s.role is Role.SPY}
        votes = [t.understood.vote for t in episode.turns if t.seat == seat.index and t.stage is Stage.DECISION]
        civilian["named"] += any(vote in spies for vote in votes)
        games.append({"step": record.step, "role": seat.role, "won": won, "ending": ending(episode)})
    return {"civilian": civilian, "spy": spy, "games": games}
