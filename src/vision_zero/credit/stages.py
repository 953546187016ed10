"""Which stage is trained next (Iterative-SPO, paper eqs. 7-10).

Once a step: `scheduler.update(accuracy, na_rate)` with the step's measures; `scheduler.stage` is what
the next step trains. A switch comes back as a `StageChange` that says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vision_zero.config import StageConfig
from vision_zero.types import JSON, Stage

Cause = Literal["threshold", "patience", "cycle"]


@dataclass(frozen=True)
class StageChange:
    """A switch and its reason.

    Example: `StageChange(Stage.DECISION, Stage.CLUE, 20, "patience", "decision -> clue after step 20: ...")`
    `step` counts the steps done so far, the first being 1.
    """

    old: Stage
    new: Stage
    step: int
    cause: Cause
    reason: str


class StageScheduler:
    """State: the stage, how many steps it has lasted, and the EMAs of accuracy and N/A rate (0 at the start).

    The EMAs move in both stages and under every schedule. Thresholds are asked before patience, so
    that a switch that was due anyway is not reported as forced.
    """

    def __init__(self, config: StageConfig) -> None:
        self.config = config
        fixed = {"clue": Stage.CLUE, "decision": Stage.DECISION}
        self.stage = fixed.get(config.schedule, Stage(config.start))
        self.steps = 0
        self.dwell = 0
        self._accuracy = 0.0
        self._na = 0.0

    @property
    def accuracy(self) -> float:
        """The EMA of the accuracy, corrected for its start at zero if the config says so."""
        return self._accuracy / self._correction

    @property
    def na(self) -> float:
        """The EMA of the N/A rate, corrected likewise."""
        return self._na / self._correction

    def update(self, accuracy: float, na_rate: float) -> StageChange | None:
        """Take in the measures of the step that was just trained, both in 0..1; switch if it is time."""
        rho = self.config.rho
        self._accuracy = rho * self._accuracy + (1 - rho) * accuracy
        self._na = rho * self._na + (1 - rho) * na_rate
        self.steps += 1
        self.dwell += 1
        due = self._due()
        if due is None:
            return None
        cause, why = due
        old = self.stage
        self.stage = Stage.CLUE if old is Stage.DECISION else Stage.DECISION
        self.dwell = 0
        return StageChange(old, self.stage, self.steps, cause, f"{old} -> {self.stage} after step {self.steps}: {why}")

    def state_dict(self) -> JSON:
        """Everything that `update` changes."""
        return {
            "stage": str(self.stage),
            "steps": self.steps,
            "dwell": self.dwell,
            "accuracy": self._accuracy,
            "na": self._na,
        }

    def load_state_dict(self, state: JSON) -> None:
        """Undo `state_dict`. Raises KeyError if a part is missing."""
        self.stage = Stage(state["stage"])
        self.steps, self.dwell = int(state["steps"]), int(state["dwell"])
        self._accuracy, self._na = float(state["accuracy"]), float(state["na"])

    @property
    def _correction(self) -> float:
        return 1 - self.config.rho**self.steps if self.config.bias_correction and self.steps else 1.0

    def _due(self) -> tuple[Cause, str] | None:
        c = self.config
        if c.schedule == "cycle":
            if self.dwell < c.cycle_length:
                return None
            return "cycle", f"the cycle gives each stage {c.cycle_length} step(s)"
        if c.schedule != "measured":
            return None
        why = self._threshold_reason()
        if why is not None and self.dwell >= c.min_dwell:
            return "threshold", why
        if c.patience is not None and self.dwell >= c.patience:
            return "patience", (
                f"forced after {self.dwell} steps in the stage; the thresholds were not met "
                f"(accuracy EMA {self.accuracy:.3f}, N/A EMA {self.na:.3f})"
            )
        return None

    def _threshold_reason(self) -> str | None:
        c = self.config
        if self.stage is Stage.DECISION:
            if self.accuracy >= c.accuracy_up and self.na <= c.na_down:
                return (
                    f"voters are good enough: accuracy EMA {self.accuracy:.3f} >= {c.accuracy_up}"
                    f" and N/A EMA {self.na:.3f} <= {c.na_down}"
                )
            return None
        if 1 - self.accuracy >= c.error_up:
            return f"voters err too often: error EMA {1 - self.accuracy:.3f} >= {c.error_up}"
        if self.na >= c.na_up:
            return f"voters abstain too often: N/A EMA {self.na:.3f} >= {c.na_up}"
        return None
