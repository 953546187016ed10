"""What a step's games say about the players: the scheduler's two measures, and flat metrics for the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from vision_zero.config import CreditConfig
from vision_zero.credit.assign import seat_rewards, spies_of, vote_groups, vote_reward
from vision_zero.credit.conduct import words
from vision_zero.credit.group import is_flat
from vision_zero.credit.rewards import Verdict, judge
from vision_zero.types import Episode, Role, Stage, StopReason, Turn


def stage_measures(episodes: Sequence[Episode]) -> tuple[float, float]:
    """Accuracy and N/A rate of a step, as the stage scheduler wants them; both 0..1. Raises ValueError without games.

    Accuracy: share of games whose plurality of sampled votes is a spy. A tie for most votes, or no valid
    vote, identifies nobody and counts as a miss, as in the game's own outcome. N/A rate: share of
    abstentions among all votes, every draw counted.
    """
    if not episodes:
        raise ValueError("no games: a step's measures need at least one")
    accuracy = fmean(float(e.outcome.accused in spies_of(e)) for e in episodes)
    return accuracy, _share(v is Verdict.ABSTAIN for v in _verdicts(episodes))


def measures(episodes: Sequence[Episode], config: CreditConfig) -> dict[str, float]:
    """Metrics of a step's games, credited or not. Raises ValueError without games.

    `win/civilian`, `win/spy`; `votes/plurality` (accuracy of a game's plurality, as above); shares of single
    votes `votes/accuracy`, `votes/na`, `votes/invalid`; `clues/malformed` (share that could not be read),
    `clues/repeated` (share that repeats an earlier clue of its game word by word, whatever its capitals and
    stops); of those who sample tokens, `clues/tokens` and `votes/tokens` (mean length), `clues/cut_off` and
    `votes/cut_off` (share that ran out of its token budget); `reward/clue/<role>`, `reward/decision`;
    `credit/flat_groups` (share of vote groups with nothing to compare). A metric without a single observation is
    absent.
    """
    accuracy, na = stage_measures(episodes)
    verdicts = _verdicts(episodes)
    wins = fmean(float(e.outcome.civilians_win) for e in episodes)
    found: dict[str, float] = {
        "win/civilian": wins,
        "win/spy": 1 - wins,
        "votes/plurality": accuracy,
        "votes/accuracy": _share(v is Verdict.CORRECT for v in verdicts),
        "votes/na": na,
        "votes/invalid": _share(v is Verdict.INVALID for v in verdicts),
    }
    clues = _turns(episodes, Stage.CLUE)
    if clues:
        found["clues/malformed"] = _share(t.understood.problem is not None for t in clues)
        found["clues/repeated"] = _share(r for e in episodes for r in _repeats(e))
    for name, turns in (("clues", clues), ("votes", _turns(episodes, Stage.DECISION))):
        sampled = [t.utterance for t in turns if t.utterance.ids]
        if sampled:
            found[f"{name}/tokens"] = fmean(len(u.ids) for u in sampled)
            found[f"{name}/cut_off"] = _share(u.stop is StopReason.LENGTH for u in sampled)
    rewards = [(seat.role, r) for e in episodes for seat, r in zip(e.seats, seat_rewards(e, config), strict=True)]
    for role in Role:
        found[f"reward/clue/{role}"] = fmean(r for held, r in rewards if held is role)
    groups = [[vote_reward(e, e.turns[t], config) for t in group] for e in episodes for group in vote_groups(e, config)]
    if groups:
        found["reward/decision"] = fmean(r for group in groups for r in group)
        found["credit/flat_groups"] = _share(is_flat(group) for group in groups)
    return found


def _turns(episodes: Sequence[Episode], stage: Stage) -> list[Turn]:
    return [turn for e in episodes for turn in e.turns if turn.stage is stage]


def _verdicts(episodes: Sequence[Episode]) -> list[Verdict]:
    return [
        judge(turn.understood.vote, spies_of(e)) for e in episodes for turn in e.turns if turn.stage is Stage.DECISION
    ]


def _repeats(episode: Episode) -> list[bool]:
    heard: set[str] = set()
    repeats = []
    for turn in episode.turns:
        if turn.stage is Stage.CLUE and turn.understood.clue is not None:
            said = " ".join(words(turn.understood.clue))
            repeats.append(said in heard)
            heard.add(said)
    return repeats


def _share(flags: Iterable[bool]) -> float:
    counted = [float(f) for f in flags]
    return fmean(counted) if counted else 0.0
