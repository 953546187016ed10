"""When a figure of a step is a sign of cheating: the limits of `credit.alarms`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vision_zero.config_pairs import Node, Positive, Probability


class AlarmConfig(Node):
    """Alarms are sentences among the metrics of a step; they stop nothing. Limits are shares unless it says so."""

    least_games: Positive = 16
    """A step of fewer games raises no alarm: a few games are always odd in some way."""
    copied: Probability = 0.6
    """Clues that repeat an earlier one of their game word by word."""
    telling: Probability = 0.05
    """Clues that speak of roles, votes or other players."""
    abstaining: Probability = 0.9
    one_seat: Probability = 0.8
    """Votes that name one and the same seat, all games together."""
    cut_off: Probability = 0.5
    """Clues, or votes, that ran out of their token budget."""
    length: Annotated[float, Field(gt=1)] = 3.0
    """Factor by which the mean length of replies may rise or fall from that of the first step."""
    drift: Probability = 0.3
    """Bits (Jensen-Shannon divergence) between the words of the clues and those of the first step."""
    sight: Probability = 0.2
    """Share of the first step's `sight/clue` below which clues do not depend on the picture."""
    truth: Probability = 0.5
    """Share of the first step's figure that true clues, and clues that say something of the scene, may fall to."""
    private_code: Probability = 0.15
    """At held-out games: votes that the policy's voters read better than the start's on the policy's own clues, beyond
    what they gained on the start's clues."""
