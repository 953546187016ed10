"""Role-advantage estimation: a running baseline for each role, so that being dealt the harder role is no news.

Paper eq. 2: `b <- alpha b + (1 - alpha) r` with the role's mean reward r, and `A = r - b`. The paper's
box and the published code subtract the baseline that has already seen r, which shrinks the advantage by
alpha and leaks the reward into its own baseline; SPIRAL, where the method comes from, subtracts first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from vision_zero.types import JSON, Role

Order = Literal["subtract_then_update", "update_then_subtract"]


class RoleAdvantage:
    """The baselines, 0 at the start. Example: `RoleAdvantage(0.95, "subtract_then_update")`"""

    def __init__(self, alpha: float, order: Order) -> None:
        self.alpha, self.order = alpha, order
        self.baselines: dict[Role, float] = dict.fromkeys(Role, 0.0)

    def baselines_for(self, means: Mapping[Role, float], update: bool = True) -> dict[Role, float]:
        """What to subtract from the rewards whose mean over each role is `means`.

        Moves the baselines of the roles in `means` towards them unless `update` is False: after the
        subtracted values were read, or before, by `order`.
        """
        before = dict(self.baselines)
        if update:
            for role, mean in means.items():
                self.baselines[role] = self.alpha * self.baselines[role] + (1 - self.alpha) * mean
        return before if self.order == "subtract_then_update" else dict(self.baselines)

    def state_dict(self) -> JSON:
        """The baselines by role name."""
        return {str(role): value for role, value in self.baselines.items()}

    def load_state_dict(self, state: JSON) -> None:
        """Undo `state_dict`. Raises KeyError if a role is missing."""
        self.baselines = {role: float(state[str(role)]) for role in Role}
