"""Things that must be the same when a run goes on."""

from __future__ import annotations

from vision_zero.errors import UserError
from vision_zero.types import JSON


class Unchanged:
    """A fact that a checkpoint remembers and that a resumed run must find again. Has no other state.

    Example: `Unchanged("the pairs", source.fingerprint, "resume with the files that the run started with")`
    """

    def __init__(self, what: str, value: str, remedy: str) -> None:
        self.what, self.value, self.remedy = what, value, remedy

    def state_dict(self) -> JSON:
        """The fact."""
        return {"value": self.value}

    def load_state_dict(self, state: JSON) -> None:
        """Compare. Raises UserError if the fact has changed."""
        if state["value"] != self.value:
            raise UserError(
                f"{self.what} changed since the checkpoint ({state['value']} then, {self.value} now): {self.remedy}"
            )
