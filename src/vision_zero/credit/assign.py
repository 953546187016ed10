"""A step's finished games to rewards, advantages and training samples. The rewards of recorded games can
be recomputed with it at any time.

All games of the step, of every process, come in one call: baselines and deviations are those of the step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pstdev

from vision_zero.config import CreditConfig
from vision_zero.credit.group import EPSILON, normalise
from vision_zero.credit.rae import RoleAdvantage
from vision_zero.credit.rewards import clue_rewards, decision_reward, judge, whole_votes
from vision_zero.errors import UserError
from vision_zero.types import Episode, Role, Sample, Stage, Turn

LEARNER = "policy"
"""Name of the player that is trained. Turns of all others are never samples."""

Key = tuple[int, int]
"""A turn of the step: index of its episode, index of the turn in it."""


@dataclass(frozen=True)
class Credited:
    """The step's episodes with rewards and advantages, in the order they came, and what to train on.

    `samples` are in the order of episodes and turns; those of the stage that is not trained have
    `advantage=None` and are there only if the config has an anchor.
    """

    episodes: tuple[Episode, ...]
    samples: tuple[Sample, ...]


def assign(episodes: Sequence[Episode], stage: Stage, config: CreditConfig, rae: RoleAdvantage) -> Credited:
    """Credit for the stage that is trained in this step; moves the baselines of `rae` as the config says.

    `Episode.rewards` are the clue rewards of the seats, in any stage; `Episode.advantages` are those of
    the turns that are trained now, None for all others.
    """
    trained = set(Stage) if stage is Stage.CLUE and config.train_both_in_clue else {stage}
    anchored = {Stage(s) for s in config.anchor_on} - trained if config.anchor > 0 else set()
    rewards = [seat_rewards(episode, config) for episode in episodes]
    clue = _clue_advantages(episodes, rewards, config, rae, stage is Stage.CLUE or config.rae_update_in == "all_steps")
    advantages = {
        **(clue if Stage.CLUE in trained else {}),
        **(_decision_advantages(episodes, config) if Stage.DECISION in trained else {}),
    }
    credited = tuple(
        replace(episode, rewards=r, advantages=tuple(advantages.get((e, t)) for t in range(len(episode.turns))))
        for e, (episode, r) in enumerate(zip(episodes, rewards, strict=True))
    )
    samples = tuple(
        sample
        for episode in credited
        for sample in spoken(episode)
        if episode.turns[sample.turn].stage in trained | anchored
    )
    return Credited(credited, samples)


def seat_rewards(episode: Episode, config: CreditConfig) -> tuple[float, ...]:
    """Clue reward of every seat of a finished game; their sum is 0."""
    if config.expected_votes:
        votes = episode.outcome.votes_received
    else:
        cast = [turn.understood.vote for turn in episode.turns if turn.stage is Stage.DECISION]
        votes = whole_votes(cast, len(episode.seats))
    return clue_rewards(votes, spies_of(episode), config.beta, config.lam)


def vote_reward(episode: Episode, turn: Turn, config: CreditConfig) -> float:
    """Reward of one vote. It is well formed if its box is not empty and its thought is long enough; whether the
    box names a seat is another matter (published code)."""
    understood, vote = turn.understood, turn.understood.vote
    well_formed = bool(understood.answer.strip()) and len(understood.thought.strip()) > config.format_thought_characters
    return decision_reward(judge(vote, spies_of(episode)), well_formed, config)


def vote_groups(episode: Episode, config: CreditConfig) -> list[list[int]]:
    """Indices of the learner's votes in the episode, grouped as they are normalised."""
    groups: dict[int | None, list[int]] = {}
    for t, turn in learner_turns(episode):
        if turn.stage is Stage.DECISION:
            groups.setdefault(turn.seat if config.group == "voter" else None, []).append(t)
    return list(groups.values())


def learner_turns(episode: Episode) -> Iterator[tuple[int, Turn]]:
    """Index and turn of everything that the learner said as sampled ids."""
    return (
        (t, turn)
        for t, turn in enumerate(episode.turns)
        if turn.player == LEARNER and turn.utterance.prompt and turn.utterance.ids
    )


def spoken(episode: Episode) -> Iterator[Sample]:
    """Everything that the learner said in a credited game; what is not trained has `advantage=None`."""
    return (_sample(episode, t, turn) for t, turn in learner_turns(episode))


def spies_of(episode: Episode) -> frozenset[int]:
    """Seats of the spies. Raises `UserError` for games of other kinds: their votes are not for seats."""
    spies = frozenset(seat.index for seat in episode.seats if seat.role is Role.SPY)
    if not spies:
        raise UserError(
            f"game {episode.id} ({episode.game}) has no spy, and credit is only known for games that have one: "
            "it can be played but not trained; set game.name=spy"
        )
    return spies


def _clue_advantages(
    episodes: Sequence[Episode],
    rewards: Sequence[Sequence[float]],
    config: CreditConfig,
    rae: RoleAdvantage,
    update: bool,
) -> dict[Key, float]:
    advantages: dict[Key, float] = {}
    roles: dict[Key, Role] = {}
    block = config.rae_games_per_update or max(1, len(episodes))
    for first in range(0, len(episodes), block):
        games = range(first, min(first + block, len(episodes)))
        baselines = rae.baselines_for(_role_means([(episodes[g], rewards[g]) for g in games]), update)
        for g in games:
            for t, turn in learner_turns(episodes[g]):
                if turn.stage is not Stage.CLUE or turn.seat is None:
                    continue
                role = episodes[g].seats[turn.seat].role
                penalty = config.malformed_clue_penalty if turn.understood.problem else 0.0
                roles[g, t] = role
                advantages[g, t] = rewards[g][turn.seat] - penalty - baselines[role]
    return _scaled_per_role(advantages, roles) if config.normalise_per_role else advantages


def _role_means(games: Sequence[tuple[Episode, Sequence[float]]]) -> dict[Role, float]:
    """Mean reward of the learner's seats by role: what a baseline is to predict. Roles it did not hold are absent."""
    seats = [(seat, rewards[seat.index]) for episode, rewards in games for seat in episode.seats]
    of_role = {role: [r for seat, r in seats if seat.role is role and seat.player == LEARNER] for role in Role}
    return {role: fmean(values) for role, values in of_role.items() if values}


def _scaled_per_role(advantages: Mapping[Key, float], roles: Mapping[Key, Role]) -> dict[Key, float]:
    """Divide by the population deviation within the role; a role whose advantages are all equal taught nothing: 0."""
    deviation = {
        role: pstdev([a for key, a in advantages.items() if roles[key] is role]) for role in set(roles.values())
    }
    return {key: a / deviation[roles[key]] if deviation[roles[key]] > EPSILON else 0.0 for key, a in advantages.items()}


def _decision_advantages(episodes: Sequence[Episode], config: CreditConfig) -> dict[Key, float]:
    advantages: dict[Key, float] = {}
    for e, episode in enumerate(episodes):
        for group in vote_groups(episode, config):
            rewards = [vote_reward(episode, episode.turns[t], config) for t in group]
            for t, advantage in zip(group, normalise(rewards, config.group_divide_by_std), strict=True):
                advantages[e, t] = advantage
    return advantages


def _sample(episode: Episode, t: int, turn: Turn) -> Sample:
    said = turn.utterance
    who = "analyst" if turn.seat is None else str(episode.seats[turn.seat].role)
    assert said.prompt is not None
    assert episode.advantages is not None
    return Sample(said.prompt, said.ids, said.logprobs, episode.advantages[t], f"{turn.stage}/{who}", episode.id, t)
