from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_games import clue, game, vote

from vision_zero.config import CreditConfig
from vision_zero.credit.assign import Credited, assign, seat_rewards
from vision_zero.credit.rae import RoleAdvantage
from vision_zero.errors import UserError
from vision_zero.types import ABSTAIN, Episode, Role, Sample, Stage, Vote

CLUE, DECISION = Stage.CLUE, Stage.DECISION


def credit(episodes: list[Episode], stage: Stage, rae: RoleAdvantage | None = None, **settings: object) -> Credited:
    config = CreditConfig.model_validate(settings)
    return assign(episodes, stage, config, rae or RoleAdvantage(config.rae_alpha, config.rae_order))


def by_label(samples: tuple[Sample, ...]) -> dict[str, list[float | None]]:
    found: dict[str, list[float | None]] = {}
    for sample in samples:
        found.setdefault(sample.label, []).append(sample.advantage)
    return found


def table(votes: list[Vote] | None = None, **settings: object) -> Episode:
    """Seat 1 is the spy; seats 0, 2, 3 vote once each."""
    choices = votes or [1, 1, 0]
    return game([vote(k, v) for k, v in zip((0, 2, 3), choices, strict=True)], **settings)  # type: ignore[arg-type]


def test_a_clue_step_trains_every_clue_with_its_seats_reward_less_the_baseline() -> None:
    clues = [clue(k, f"{k} {r}", round=r) for r in (1, 2) for k in range(4)]
    rae = RoleAdvantage(0.5, "subtract_then_update")
    first = credit([table(clues=clues)], CLUE, rae)
    (episode,) = first.episodes
    assert episode.rewards == pytest.approx((-0.1 + 1 / 18 + 1 / 30, -1 / 6, 4 / 45, 4 / 45), abs=1e-9)
    assert episode.advantages == pytest.approx((*episode.rewards, *episode.rewards, None, None, None))
    assert [s.turn for s in first.samples] == list(range(8))
    assert {s.episode for s in first.samples} == {episode.id}
    assert first.samples[0].ids == clues[0].utterance.ids
    assert first.samples[0].sampling_logprobs == clues[0].utterance.logprobs
    # the spy's mean was -1/6, so that its baseline is now half of it
    second = by_label(credit([table()], CLUE, rae).samples)
    assert second["clue/spy"] == pytest.approx([-1 / 12])
    assert set(second) == {"clue/spy", "clue/civilian"}


def test_a_decision_step_trains_the_votes_of_a_game_against_each_other() -> None:
    done = credit([table([1, 0, ABSTAIN]), table([1, 1, 1])], DECISION)
    assert by_label(done.samples) == {
        "decision/civilian": pytest.approx([1.37281, -0.98058, -0.39223, 0, 0, 0], abs=1e-5)
    }
    assert done.episodes[0].advantages is not None
    assert done.episodes[0].advantages[:4] == (None,) * 4
    assert done.episodes[0].rewards is not None, "clue rewards are known in every stage"


def test_votes_can_be_compared_within_their_voter() -> None:
    episode = game([vote(0, 1, 0), vote(0, 0, 1), vote(2, 1, 0), vote(2, 1, 1)])
    together = credit([episode], DECISION, group="game", group_divide_by_std=False)
    apart = credit([episode], DECISION, group="voter", group_divide_by_std=False)
    assert [s.advantage for s in together.samples] == [0.5, -1.5, 0.5, 0.5]
    assert [s.advantage for s in apart.samples] == [1.0, -1.0, 0.0, 0.0]


def test_the_anchor_brings_the_other_stage_without_advantage() -> None:
    assert by_label(credit([table()], CLUE, anchor=0.2).samples)["decision/civilian"] == [None] * 3
    labels = by_label(credit([table()], DECISION, anchor=0.2).samples)
    assert labels["clue/spy"] == [None]
    assert labels["clue/civilian"] == [None] * 3
    assert None not in labels["decision/civilian"]


def test_anchors_can_be_limited_to_one_stages_tokens() -> None:
    assert "clue/civilian" in by_label(credit([table()], DECISION, anchor=0.2, anchor_on=["clue"]).samples)
    assert "decision/civilian" not in by_label(credit([table()], CLUE, anchor=0.2, anchor_on=["clue"]).samples)


def test_the_published_gating_defect_trains_votes_in_clue_steps_only() -> None:
    both = by_label(credit([table()], CLUE, train_both_in_clue=True, anchor=0.2).samples)
    assert None not in [a for advantages in both.values() for a in advantages]
    assert set(both) == {"clue/spy", "clue/civilian", "decision/civilian"}
    assert set(by_label(credit([table()], DECISION, train_both_in_clue=True).samples)) == {"decision/civilian"}


def test_only_the_policys_own_tokens_are_trained() -> None:
    players = ["policy", "frozen", "human", "policy"]
    clues = [clue(0), clue(1, player="frozen"), clue(2, player="human", ids=0), clue(3, ids=0)]
    votes = [vote(0, 1), vote(2, 1, player="human"), vote(3, 0)]
    done = credit([game(votes, clues, players=players)], CLUE, anchor=0.1)
    assert [(s.label, s.turn) for s in done.samples] == [
        ("clue/civilian", 0),
        ("decision/civilian", 4),
        ("decision/civilian", 6),
    ]


def test_votes_of_others_do_not_enter_the_policys_group() -> None:
    votes = [vote(0, 1), vote(2, 0, player="frozen"), vote(3, 1)]
    done = credit([game(votes, players=["policy", "policy", "frozen", "policy"])], DECISION)
    assert [s.advantage for s in done.samples] == [0.0, 0.0]


def test_baselines_follow_the_learners_seats_of_all_games_once_a_step() -> None:
    rae = RoleAdvantage(0.5, "update_then_subtract")
    caught, missed = table([1, 1, 1]), table([0, 0, 0])
    frozen_spy = game([vote(0, 0)], players=["policy", "frozen", "policy", "policy"])
    done = credit([caught, missed, frozen_spy], CLUE, rae)
    spy_rewards = [e.rewards[1] for e in done.episodes if e.rewards]
    assert rae.baselines["spy"] == pytest.approx(0.5 * (spy_rewards[0] + spy_rewards[1]) / 2)
    assert by_label(done.samples)["clue/spy"] == pytest.approx([r - rae.baselines["spy"] for r in spy_rewards[:2]])


@pytest.mark.parametrize(("where", "moved"), [("clue_steps", False), ("all_steps", True)])
def test_whether_decision_steps_move_the_baselines(where: str, moved: bool) -> None:
    rae = RoleAdvantage(0.9, "subtract_then_update")
    credit([table()], DECISION, rae, rae_update_in=where)
    assert (rae.baselines["spy"] != 0) is moved


def test_baselines_can_move_several_times_within_a_step() -> None:
    rae = RoleAdvantage(0.5, "subtract_then_update")
    done = credit([table([1, 1, 1])] * 2, CLUE, rae, rae_games_per_update=1)
    assert by_label(done.samples)["clue/spy"] == pytest.approx([-0.3, -0.15])


def test_every_draw_is_a_whole_vote_only_if_asked() -> None:
    episode = game([vote(0, 1, 0), vote(0, 1, 1), vote(2, 1, 0), vote(2, 0, 1)])
    assert seat_rewards(episode, CreditConfig())[1] == pytest.approx(-0.1 * (1.5 - 0.5 / 3))
    assert seat_rewards(episode, CreditConfig(expected_votes=False))[1] == pytest.approx(-0.1 * (3 - 1 / 3))


def test_a_malformed_clue_pays_for_itself_and_not_for_its_seats_other_clue() -> None:
    clues = [clue(0, None, round=1), clue(0, "a cube .", round=2)]
    done = credit([table(clues=clues)], CLUE, malformed_clue_penalty=0.25)
    bad, good = (s.advantage for s in done.samples)
    assert good is not None
    assert bad == pytest.approx(good - 0.25)
    assert done.episodes[0].rewards is not None
    assert sum(done.episodes[0].rewards) == pytest.approx(0)


def test_normalised_per_role_every_role_weighs_the_same() -> None:
    games = [table([1, 1, 1]), table([1, 0, ABSTAIN]), table([0, 0, 2])]
    advantages = by_label(credit(games, CLUE, normalise_per_role=True).samples)
    plain = by_label(credit(games, CLUE).samples)
    for role in ("clue/spy", "clue/civilian"):
        values = [a for a in advantages[role] if a is not None]
        mean = sum(values) / len(values)
        assert sum((a - mean) ** 2 for a in values) / len(values) == pytest.approx(1)
        raw = [a for a in plain[role] if a is not None]
        assert values == pytest.approx([a * values[0] / raw[0] for a in raw])
    flat = by_label(credit([table([1, 1, 1])] * 2, CLUE, normalise_per_role=True).samples)
    assert flat["clue/spy"] == [0, 0]


def test_a_game_without_a_spy_is_not_trained_on() -> None:
    episode = table()
    civilians = tuple(replace(seat, role=Role.CIVILIAN) for seat in episode.seats)
    with pytest.raises(UserError, match=r"game 000000-0000 .* has no spy.*set game\.name=spy"):
        credit([replace(episode, seats=civilians)], CLUE)


def test_an_analysts_votes_have_their_own_label() -> None:
    done = credit([game([vote(None, v, d) for d, v in enumerate((1, 1, 0, None))])], DECISION)
    assert set(by_label(done.samples)) == {"decision/analyst"}
    assert sum(s.advantage for s in done.samples if s.advantage is not None) == pytest.approx(0)


@given(st.lists(st.lists(st.sampled_from([0, 1, 2, 3, ABSTAIN, None]), min_size=3, max_size=3), min_size=1, max_size=5))
def test_any_votes_give_zero_sum_rewards_and_cancelling_decision_advantages(votes: list[list[Vote]]) -> None:
    done = credit([table(v) for v in votes], DECISION)
    for episode in done.episodes:
        assert episode.rewards is not None
        assert sum(episode.rewards) == pytest.approx(0, abs=1e-9)
        assert episode.advantages is not None
        assert sum(a for a in episode.advantages if a is not None) == pytest.approx(0, abs=1e-6)
