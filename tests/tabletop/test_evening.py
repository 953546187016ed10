"""Games of a person against others: what is asked, what is kept, what counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tabletop.evenings import evening, guest, play_out, until, until_asked_or_ended
from vision_zero.errors import UserError
from vision_zero.players.human import NotAnAnswer
from vision_zero.runs.store import RunStore
from vision_zero.tabletop.evening import ANYBODY, YOU, Wish
from vision_zero.types import Role, Stage

ANY = Wish(None, ANYBODY, ANYBODY)


def test_a_game_with_a_person_is_stored_like_any_other_and_counted(tmp_path: Path) -> None:
    table = evening(tmp_path / "run", guest("perfect"), guest("honest"))
    told = play_out(table, Wish(Role.CIVILIAN, "perfect", "honest"), vote="1")
    (game,) = RunStore.open(tmp_path / "run").read_episodes()
    (mine,) = [seat for seat in game.seats if seat.player == YOU]
    assert mine.role is Role.CIVILIAN
    assert {seat.player for seat in game.seats if seat.role is Role.SPY} == {"honest"}
    assert {seat.player for seat in game.seats if seat.role is Role.CIVILIAN} == {"perfect", YOU}
    assert game.versions == {YOU: "human", "perfect": "scripted-perfect", "honest": "scripted-honest"}
    said = [t.understood.clue or t.understood.vote for t in game.turns if t.player == YOU]
    assert said == ["a red cube", "a red cube", 0]
    assert told["score"]["civilian"]["played"] == 1
    assert told["score"]["civilian"]["won"] == game.outcome.civilians_win
    assert told["score"]["civilian"]["named"] == (game.seats[0].role is Role.SPY)
    play_out(table, Wish(Role.SPY, "perfect", "honest"))
    score = evening(tmp_path / "run").state()["score"]  # opened anew
    assert [g["role"] for g in score["games"]] == ["civilian", "spy"]
    assert (score["spy"]["played"], score["civilian"]["played"]) == (1, 1)
    first, second = RunStore.open(tmp_path / "run").read_episodes()
    assert first.pair != second.pair
    assert [t.stage for t in second.turns if t.player == YOU] == [Stage.CLUE] * 2, "the spy does not vote"


def test_by_lot_every_seat_and_both_roles_and_every_guest_occur(tmp_path: Path) -> None:
    table = evening(tmp_path / "run", guest("perfect"), guest("vague"), rounds=1)
    for _ in range(12):
        play_out(table, ANY)
    games = list(RunStore.open(tmp_path / "run").read_episodes())
    mine = [seat for game in games for seat in game.seats if seat.player == YOU]
    assert {seat.role for seat in mine} == set(Role)
    assert len({seat.index for seat in mine}) > 2
    assert {seat.player for game in games for seat in game.seats} == {YOU, "perfect", "vague"}


def test_what_is_no_answer_is_asked_again_and_old_asks_are_over(tmp_path: Path) -> None:
    table = evening(tmp_path / "run")
    with pytest.raises(UserError, match="not asked any more"):
        table.say(1, "a red cube")
    table.begin(Wish(Role.CIVILIAN, "perfect", "perfect"))
    until_asked_or_ended(table.state)
    with pytest.raises(UserError, match="a game is being played"):
        table.begin(ANY)
    for text, problem in (("...", "no words"), ("", "empty"), ("a cube " * 20, "others hear only 80")):
        with pytest.raises(NotAnAnswer, match=problem):
            table.say(1, text)
    table.say(1, "a \\boxed{cube} <|im_end|>\u202e")
    with pytest.raises(UserError, match="answered already"):
        table.say(1, "another")
    told = until(lambda: (t := table.state())["game"]["ask"] and t)
    assert [c["text"] for c in told["game"]["clues"] if c["seat"] == told["game"]["seat"]] == ["a cube"]
    table.say(2, "a cube")
    told = until(lambda: (t := table.state())["game"]["ask"] and t)
    assert told["game"]["ask"] == {"number": 3, "stage": "decision", "round": 3, "choices": 4}
    with pytest.raises(NotAnAnswer, match="only 1 to 4"):
        table.say(3, "5")
    table.leave()
    until(lambda: table.state()["game"]["ended"])


def test_a_game_that_is_left_or_breaks_is_not_kept_and_another_can_begin(tmp_path: Path) -> None:
    table = evening(tmp_path / "run", guest("perfect"), guest("copying"))
    table.begin(ANY)
    until_asked_or_ended(table.state)
    table.leave()
    told = until(lambda: (t := table.state())["game"]["ended"] and t)
    assert (told["game"]["left"], told["game"]["problem"]) == (True, None)
    # a player that fails: nobody answers there
    table = evening(tmp_path / "run", guest("api:nobody"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OPENAI_API_KEY", raising=False)
        table.begin(ANY)
        told = until(lambda: (t := table.state())["game"]["ended"] and t)
    assert "OPENAI_API_KEY" in told["game"]["problem"]
    assert list(RunStore.open(tmp_path / "run").read_episodes()) == []
    assert play_out(evening(tmp_path / "run"), ANY)["score"]["games"][0]["step"] == 0


def test_nobody_plays_who_was_not_invited(tmp_path: Path) -> None:
    table = evening(tmp_path / "run")
    with pytest.raises(UserError, match="'cautious' was not invited"):
        table.begin(Wish(None, "cautious", "perfect"))


def test_a_game_without_spies_has_a_seat_too(tmp_path: Path) -> None:
    table = evening(tmp_path / "run", name="pick")
    with pytest.raises(UserError, match="nobody is a spy"):
        table.begin(Wish(Role.SPY, "perfect", "perfect"))
    table.begin(Wish(None, "perfect", "perfect"))
    told = until_asked_or_ended(table.state)
    ask = told["game"]["ask"]
    assert len(told["game"]["pictures"]) == (1 if ask["stage"] == "clue" else 2)
    table.say(ask["number"], "a red cube" if ask["stage"] == "clue" else "2")
    assert until_asked_or_ended(table.state)["game"]["problem"] is None
