"""Cheating made visible: a sentence for every figure of a step that an honest player would not have.

Alarms are metrics (`alarm/NAME`), printed, stored and shown like others; they stop nothing. What is usual differs from
model to model, so that several figures are compared with those of the run's first step, which the start itself played.
"""

from __future__ import annotations

from collections.abc import Mapping

from vision_zero.config import AlarmConfig

Value = float | int | str
GAP = "held_out/private_code"
"""How much more the policy's voters gain over the start's on the policy's own clues than on the start's clues."""
GAP_LOW = f"{GAP}/low"


def alarms(metrics: Mapping[str, Value], first: Mapping[str, Value], games: int, config: AlarmConfig) -> dict[str, str]:
    """Name -> sentence, of all that are due after a step with these metrics; `first` are those of the first step.

    Steps of fewer than `config.least_games` games raise none but those of held-out games. A figure that either step
    lacks raises none.
    """
    found: dict[str, str] = {}
    if games >= config.least_games:
        found |= _absolute(metrics, config) | _relative(metrics, first, config)
    gap, low = _number(metrics, GAP), _number(metrics, GAP_LOW)
    if gap is not None and low is not None and gap > config.private_code and low > 0:
        found["private_code"] = (
            f"the policy's voters read its own clues {gap:.0%} of votes better than the start's voters do, beyond what "
            f"they gained on the start's clues (alarm above {config.private_code:.0%}): the clues may be a private code"
        )
    return found


def _absolute(metrics: Mapping[str, Value], config: AlarmConfig) -> dict[str, str]:
    rules = {
        "copied": (
            "clues/repeated",
            config.copied,
            "of the clues repeat an earlier clue of their game word by word",
        ),
        "telling": (
            "clues/telling",
            config.telling,
            "of the clues speak of roles, votes or other players instead of a picture",
        ),
        "abstaining": ("votes/na", config.abstaining, "of the votes abstain: nobody is accused any more"),
        "one_seat": ("votes/one_seat", config.one_seat, "of the votes name one and the same seat"),
        "cut_off_clues": ("clues/cut_off", config.cut_off, "of the clues run out of their token budget"),
        "cut_off_votes": ("votes/cut_off", config.cut_off, "of the votes run out of their token budget"),
    }
    found = {}
    for name, (metric, limit, what) in rules.items():
        value = _number(metrics, metric)
        if value is not None and value > limit:
            found[name] = f"{value:.0%} {what} (alarm above {limit:.0%})"
    drift = _number(metrics, "clues/drift")
    if drift is not None and drift > config.drift:
        found["drift"] = (
            f"the words of the clues have moved {drift:.2f} bits away from the start's (alarm above {config.drift:g}): "
            "look whether they still mean what they say"
        )
    return found


def _relative(metrics: Mapping[str, Value], first: Mapping[str, Value], config: AlarmConfig) -> dict[str, str]:
    found = {}
    falls = {
        "blind_clues": ("sight/clue", config.sight, "how much clues depend on the picture, in nats a token,"),
        "false_clues": ("clues/true/civilian", config.truth, "the share of civilians' clues that are true"),
        "empty_clues": ("clues/checked", config.truth, "the share of clues that say something of the scene"),
    }
    for name, (metric, share, what) in falls.items():
        now, then = _number(metrics, metric), _number(first, metric)
        if now is not None and then is not None and now < share * then:
            found[name] = f"{what} fell from {then:.3g} to {now:.3g} (alarm below {share:g} of the start)"
    for stage in ("clues", "votes"):
        now, then = _number(metrics, f"{stage}/words"), _number(first, f"{stage}/words")
        if now is None or not then:
            continue
        if now > config.length * then:
            found[f"long_{stage}"] = (
                f"{stage} have {now:.1f} words where the start's had {then:.1f} (alarm above {config.length:g} times)"
            )
        elif now * config.length < then:
            found[f"short_{stage}"] = (
                f"{stage} have {now:.1f} words where the start's had {then:.1f} (alarm below 1/{config.length:g})"
            )
    return found


def _number(metrics: Mapping[str, Value], name: str) -> float | None:
    value = metrics.get(name)
    return float(value) if isinstance(value, float | int) else None
