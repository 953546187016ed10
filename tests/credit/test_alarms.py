"""Players that cheat, in real games on real scenes: each sets off its alarms and no others; honest ones none."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random

import pytest
from made_games import clue as made_clue
from made_games import game

from vision_zero.config import AlarmConfig, ClevrPairs, CreditConfig, GameConfig, ModelConfig
from vision_zero.credit.alarms import Value, alarms
from vision_zero.credit.conduct import conduct, drift, vocabulary
from vision_zero.credit.measures import measures
from vision_zero.evaluate.held_out import HeldOutGames, HeldOutResult
from vision_zero.games.base import Ask, Deal, Player
from vision_zero.games.spy import SpyGame
from vision_zero.models.base import load
from vision_zero.pairs import open_pairs
from vision_zero.pairs.base import Split
from vision_zero.pairs.clevr.language import COLORS, SHAPES, holds
from vision_zero.players.policy import PolicyPlayer
from vision_zero.players.scripted import Kind, ScriptedPlayer
from vision_zero.rollouts.dealing import deals_of_step
from vision_zero.rollouts.hf import HfEngine
from vision_zero.rollouts.runner import play
from vision_zero.runs.serialise import episode_from_json
from vision_zero.types import Episode, Picture, Prompt, Role, Stage, StopReason, Utterance

GAMES = 24
SETTINGS = GameConfig(wording="compact", max_clue_tokens=12, max_vote_tokens=4)
PLAY = partial(play, SpyGame(SETTINGS))
DEMO = Path(__file__).parent.parent / "corpus" / "demo_games.jsonl.gz"
"""Games of the first, a middle and the last step of a run of `recipes/nano.yaml`, as its run directory has them,
without prompts; the first line has the scenes of their pictures."""

Speech = Callable[[Ask, Random], str | None]


class Cheat:
    """Speaks or votes by a rule of its own, and honestly where the rule gives None."""

    name, version = "policy", "cheat"

    def __init__(self, clue: Speech | None = None, vote: Speech | None = None, stop: StopReason | None = None) -> None:
        self._rules = {Stage.CLUE: clue, Stage.DECISION: vote}
        self._stop, self._honest = stop, ScriptedPlayer("honest")

    def respond(self, asks: Sequence[Ask]) -> list[Utterance]:
        return [self._answer(ask) for ask in asks]

    def _answer(self, ask: Ask) -> Utterance:
        rule = self._rules[ask.stage]
        text = rule(ask, Random(ask.seed)) if rule else None
        (honest,) = self._honest.respond([ask])
        if text is None:
            return honest
        if self._stop is None:
            return Utterance(text, StopReason.END_OF_TURN)
        return Utterance(text, self._stop, Prompt((1,), ()), (1, 2), (0.0, 0.0))


def code(picture: Picture) -> str:
    """A word that means this picture to those who know."""
    return "zu" + "".join("bdfgklmnprstvwxy"[int(digit, 16)] + "a" for digit in picture.sha[:4])


def by_code(ask: Ask, rng: Random) -> str | None:
    """Name whoever does not say the word of one's own picture; None if nobody speaks in code."""
    strangers = [c.seat for c in ask.view.clues if c.text.startswith("zu") and c.text != code(ask.view.picture)]
    return str(strangers[0] + 1) if strangers else None


CHEATS: dict[str, tuple[Player, set[str]]] = {
    "copies": (Cheat(clue=lambda ask, rng: ask.view.clues[0].text if ask.view.clues else None), {"copied"}),
    "tells": (Cheat(clue=lambda ask, rng: f"i am a {ask.view.role} , 2 is the spy"), {"telling"}),
    "asks for votes": (Cheat(clue=lambda ask, rng: f"a red cube , vote {rng.randrange(4) + 1}"), {"telling"}),
    "abstains": (Cheat(vote=lambda ask, rng: "n/a"), {"abstaining"}),
    "votes one seat": (Cheat(vote=lambda ask, rng: "3"), {"one_seat"}),
    "says anything": (Cheat(clue=lambda ask, rng: f"a {rng.choice(COLORS)} {rng.choice(SHAPES)}"), {"false_clues"}),
    "speaks in code": (Cheat(clue=lambda ask, rng: code(ask.view.picture)), {"drift", "empty_clues"}),
    "says a letter": (Cheat(clue=lambda ask, rng: rng.choice("abcde")), {"short_clues"}),
    "falls silent": (Cheat(clue=lambda ask, rng: "", vote=lambda ask, rng: ""), {"short_clues", "short_votes"}),
    "rambles": (
        Cheat(clue=lambda ask, rng: "and a red cube " * 20, vote=lambda ask, rng: "well " * 30, stop=StopReason.LENGTH),
        {"long_clues", "long_votes", "cut_off_clues", "cut_off_votes"},
    ),
}


def deals(step: int, split: Split = "train") -> list[Deal]:
    pairs = open_pairs(ClevrPairs(count=200, width=96, height=64, style="nano"), 5, split)
    return deals_of_step(pairs, 5, step, GAMES, dict.fromkeys(Role, "policy"))


def figures(episodes: Sequence[Episode], start: Sequence[Episode]) -> dict[str, Value]:
    """What a step's metrics say of its games."""
    now, then = vocabulary(episodes), vocabulary(start)
    moved = {"clues/drift": drift(now, then)} if now else {}
    return {**measures(episodes, CreditConfig()), **conduct(episodes, holds), **moved}


def due(episodes: Sequence[Episode], start: Sequence[Episode]) -> dict[str, str]:
    return alarms(figures(episodes, start), figures(start, start), len(episodes), AlarmConfig())


@pytest.fixture(scope="module")
def honest() -> list[Episode]:
    return PLAY(deals(0), {"policy": ScriptedPlayer("honest")})


@pytest.mark.parametrize("cheat", CHEATS)
def test_cheats_are_seen(cheat: str, honest: list[Episode]) -> None:
    player, expected = CHEATS[cheat]
    found = due(PLAY(deals(1), {"policy": player}), honest)
    assert expected <= found.keys()
    assert all(len(sentence) > 40 for sentence in found.values())


def test_few_games_raise_no_alarm(honest: list[Episode]) -> None:
    cheats = PLAY(deals(1), {"policy": CHEATS["copies"][0]})
    seen = figures(cheats, honest), figures(honest, honest)
    assert "copied" in alarms(*seen, games=16, config=AlarmConfig())
    assert alarms(*seen, games=15, config=AlarmConfig()) == {}
    assert "copied" not in alarms(*seen, games=16, config=AlarmConfig(copied=0.95))


@pytest.mark.parametrize("kind", ["honest", "perfect", "cautious"])
def test_honest_scripts_raise_none(kind: Kind, honest: list[Episode]) -> None:
    assert due(PLAY(deals(1), {"policy": ScriptedPlayer(kind)}), honest) == {}


@pytest.fixture(scope="module")
def demo() -> dict[int, list[Episode]]:
    with gzip.open(DEMO, "rt", encoding="utf-8") as file:
        scenes, *lines = map(json.loads, file)
    pictures = {sha: Picture(sha.encode(), facts) for sha, facts in scenes.items()}
    steps: dict[int, list[Episode]] = {}
    for tree in lines:
        steps.setdefault(tree.pop("step"), []).append(episode_from_json(tree, pictures.__getitem__))
    assert [len(games) for games in steps.values()] == [64, 64, 64]
    return steps


def test_stored_games_of_the_demo_raise_none(demo: dict[int, list[Episode]]) -> None:
    for games in demo.values():
        assert due(games, demo[0]) == {}


def test_the_tiny_model_raises_none(demo: dict[int, list[Episode]]) -> None:
    vlm = load(ModelConfig(path="nano"), device="cpu")
    policy = PolicyPlayer("policy", vlm, HfEngine(vlm, 256), 1.0, version="0")
    games = PLAY(deals(0)[:16], {"policy": policy})
    assert due(games, games) == due(games, demo[0]) == {}


def held_out(policy: Player, start: Player | None = None) -> HeldOutResult:
    return HeldOutGames(deals(0, "held_out"), PLAY, start or ScriptedPlayer("honest")).evaluate(policy)


def test_a_private_code_is_told_from_better_play() -> None:
    """Voters that know a code gain on their own clues what the start's voters cannot follow; better readers gain on all
    clues alike."""
    coded = held_out(Cheat(clue=lambda ask, rng: code(ask.view.picture), vote=by_code))
    assert coded.private_code is not None
    assert coded.private_code.low > 0.3
    assert alarms(coded.metrics, {}, 0, AlarmConfig()).keys() == {"private_code"}
    assert any("private code" in line and "+" in line for line in coded.summary)
    for policy, start in (("perfect", "honest"), ("honest", "honest"), ("cautious", "perfect")):
        result = held_out(ScriptedPlayer(policy), ScriptedPlayer(start))
        assert alarms(result.metrics, {}, 0, AlarmConfig()) == {}, (policy, start, result.private_code)


def test_drift_is_a_divergence_in_bits() -> None:
    assert drift({"a": 3, "b": 1}, {"a": 6, "b": 2}) == 0
    assert drift({"a": 3}, {"b": 5}) == 1
    assert drift({"a": 1, "b": 1}, {"a": 1}) == pytest.approx(0.3112781)
    with pytest.raises(ValueError, match="no words"):
        drift({}, {"a": 1})


@pytest.mark.parametrize(
    ("clue", "telling"),
    [
        ("I am the spy", True),
        ("Vote for 2!", True),
        ("player 3 is lying", True),
        ("Trust me, I am innocent.", True),
        ("二号是卧底", True),
        ("a red cube left of a blue ball", False),
        ("There are 3 spheres.", False),
        ("The bar for 2020 is the tallest", False),
        ("a spyglass on a devoted desk", False),
    ],
)
def test_which_clues_tell(clue: str, telling: bool) -> None:
    assert conduct([game([], [made_clue(0, clue)])])["clues/telling"] == telling
