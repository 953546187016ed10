"""Held-out comparisons with the real game, runner and pictures; scripted players stand in for models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import pytest

from vision_zero.config import ClevrPairs, GameConfig
from vision_zero.evaluate.held_out import HeldOutGames, StagePlayer
from vision_zero.games.base import Ask, Deal, Player
from vision_zero.games.spy import SpyGame
from vision_zero.pairs import open_pairs
from vision_zero.pairs.clevr.language import is_true
from vision_zero.players.scripted import ScriptedPlayer
from vision_zero.rollouts.dealing import deals_of_step
from vision_zero.rollouts.runner import play
from vision_zero.types import Episode, Role, Stage, StopReason, Utterance

GAMES = 40
PLAY = partial(play, SpyGame(GameConfig(wording="compact", votes_per_voter=2)))
CAST = {Role.CIVILIAN: "policy", Role.SPY: "policy"}


@pytest.fixture(scope="module")
def deals() -> list[Deal]:
    pairs = open_pairs(ClevrPairs(count=200, width=96, height=64, style="nano"), 5, "held_out")
    return deals_of_step(pairs, 5, 0, GAMES, CAST)


class Counted:
    """Counts what it is asked."""

    def __init__(self, inner: Player) -> None:
        self.name, self.version, self.inner, self.asked = inner.name, inner.version, inner, 0

    def respond(self, asks: Sequence[Ask]) -> Sequence[Utterance]:
        self.asked += len(asks)
        return self.inner.respond(asks)


class Mute:
    """Says nothing that can be read."""

    name = version = "mute"

    def respond(self, asks: Sequence[Ask]) -> Sequence[Utterance]:
        return [Utterance("???", StopReason.LENGTH) for _ in asks]


def verdicts(start: Player, policy: Player, deals: Sequence[Deal]) -> dict[str, str]:
    games = HeldOutGames(deals, PLAY, start, ScriptedPlayer("perfect", "reader"), is_true)
    return {row.name: row.verdict for row in games.evaluate(policy).rows}


def test_a_better_player_improves_and_a_worse_one_is_called_worse(deals: list[Deal]) -> None:
    perfect, random = ScriptedPlayer("perfect"), ScriptedPlayer("random")
    better, worse = verdicts(random, perfect, deals), verdicts(perfect, random, deals)
    for row in ("true_civilian_clues", "reader_finds_spy", "spy_escapes_reader"):
        assert (better[row], worse[row]) == ("improved", "worse"), row
    for row in ("votes_on_start_clues", "wins_as_spy"):
        assert worse[row] == "worse", row
    for row in ("votes_on_start_clues", "wins_as_spy"):
        assert better[row] == "no clear change", "random clues tell voters nothing, random voters do not listen"
    assert (better["true_spy_clues"], worse["true_spy_clues"]) == ("rose", "fell")
    assert (better["abstentions"], worse["abstentions"]) == ("fell", "rose")


def test_the_start_against_itself_is_no_change_on_any_row(deals: list[Deal]) -> None:
    start = ScriptedPlayer("honest")
    games = HeldOutGames(deals, PLAY, start, ScriptedPlayer("perfect"), is_true)
    result = games.evaluate(ScriptedPlayer("honest", "copy of the start"))
    assert {row.verdict for row in result.rows} == {"no clear change"}
    assert {row.difference.point for row in result.rows if row.name != "self_play_votes"} == {0.0}
    assert result.summary[0] == "nothing clearly improved"
    assert result.same_clues == 1


def test_figures_are_those_of_the_games_counted_by_hand(deals: list[Deal]) -> None:
    start, policy = ScriptedPlayer("honest"), ScriptedPlayer("cautious")
    result = HeldOutGames(deals, PLAY, start, is_true=is_true).evaluate(policy)
    cast = {Role.CIVILIAN: "policy", Role.SPY: "start"}
    episodes = PLAY([replace(d, cast=cast) for d in deals], {"policy": policy, "start": start})
    row = result.row("wins_as_civilians")
    assert row.after.point == sum(e.outcome.civilians_win for e in episodes) / GAMES
    assert row.difference.point == pytest.approx(row.after.point - row.before.point)
    assert (row.after.trials, row.after.games) == (GAMES, GAMES)

    clues_by_start = StagePlayer(start, policy)
    voted = PLAY([replace(d, cast=cast) for d in deals], {"policy": clues_by_start, "start": start})
    right = [
        t.understood.vote == next(s.index for s in e.seats if s.role is Role.SPY)
        for e in voted
        for t in e.turns
        if t.stage is Stage.DECISION
    ]
    row = result.row("votes_on_start_clues")
    assert row.after.point == pytest.approx(sum(right) / len(right))
    assert (row.after.trials, len(right)) == (GAMES * 6, GAMES * 6)
    assert row.before.point != row.after.point
    assert result.perfect_reader is None
    with pytest.raises(KeyError):
        result.row("reader_finds_spy")


def test_the_start_plays_alone_only_once(deals: list[Deal]) -> None:
    start = Counted(ScriptedPlayer("honest"))
    games = HeldOutGames(deals, PLAY, start)
    games.evaluate(ScriptedPlayer("perfect"))
    first = start.asked
    games.evaluate(ScriptedPlayer("vague"))
    second = start.asked - first
    assert first - second == GAMES * (8 + 6), "all clues and votes of its own games"


def test_unreadable_players_are_reported_as_such(deals: list[Deal]) -> None:
    result = HeldOutGames(deals, PLAY, ScriptedPlayer("perfect"), is_true=is_true).evaluate(Mute())
    row = result.row("invalid_votes")
    assert (row.before.point, row.after.point, row.verdict) == (0, 1, "worse")
    assert result.row("true_civilian_clues").after.point == 0
    assert result.row("votes_on_start_clues").verdict == "worse"


def test_a_start_that_does_not_repeat_itself_is_owned_up_to(deals: list[Deal]) -> None:
    class Moody(ScriptedPlayer):
        calls = 0

        def respond(self, asks: Sequence[Ask]) -> list[Utterance]:
            self.calls += 1
            return super().respond([replace(a, seed=a.seed + self.calls) for a in asks])

    result = HeldOutGames(deals, PLAY, Moody("honest")).evaluate(ScriptedPlayer("perfect"))
    assert result.same_clues < 0.9
    assert any("came out the same" in line for line in result.summary)


def test_results_are_plain_data_and_sentences(deals: list[Deal]) -> None:
    games = HeldOutGames(deals, PLAY, ScriptedPlayer("random"), ScriptedPlayer("perfect", "reader"), is_true)
    result = games.evaluate(ScriptedPlayer("perfect"))
    tree = json.loads(json.dumps(result.to_json()))
    assert (tree["start"], tree["policy"], tree["games"]) == ("scripted-random", "scripted-perfect", GAMES)
    assert [r["verdict"] for r in tree["rows"]] == [r.verdict for r in result.rows]
    assert tree["rows"][0]["difference"]["low"] == result.rows[0].difference.low
    assert result.summary[0].startswith("improved: ")
    assert len(result.summary) == len(result.rows) + 2
    assert result.perfect_reader is not None
    assert "perfect readers of the start's clues" in result.summary[-1]


def test_rows_that_need_facts_are_absent_without_them(deals: list[Deal]) -> None:
    blind = [
        replace(d, pair=replace(d.pair, original=replace(d.pair.original, facts=None), modified=None))
        for d in deals[:4]
    ]
    blank = partial(play, SpyGame(GameConfig(wording="compact", spy_picture="blank")))
    result = HeldOutGames(blind, blank, ScriptedPlayer("random"), is_true=is_true).evaluate(Mute())
    assert not [row.name for row in result.rows if "true" in row.name]


def test_bad_callers_are_stopped(deals: list[Deal]) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        HeldOutGames(deals[:1], PLAY, Mute())

    def shuffled(deals: Sequence[Deal], players: Mapping[str, Player]) -> list[Episode]:
        return PLAY(deals, players)[::-1]

    with pytest.raises(ValueError, match="in order"):
        HeldOutGames(deals, shuffled, Mute()).evaluate(Mute())
