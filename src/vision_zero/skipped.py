"""Updates that were skipped because their loss or gradient was not finite: what is kept, and when it is enough."""

from __future__ import annotations

from vision_zero.distributed import gather
from vision_zero.errors import UserError
from vision_zero.runs.store import RunStore
from vision_zero.update.tree import name
from vision_zero.update.updater import Updater

SHOWN = 8
"""Most samples named in a message."""


def keep_offending(updater: Updater, store: RunStore, step: int, most: int, main: bool) -> str:
    """Write the samples for which updates of `step` were skipped into the run directory; what to tell the user.

    All processes call it, `main` writes. Raises `UserError` on all of them after more than `most` skipped updates
    in a row.
    """
    offending = gather(updater.offending)
    if main:
        store.write_offending(step, offending)
    names = sorted({name(sample) for sample in offending})
    listed = f"{'; '.join(names[:SHOWN])}{f' and {len(names) - SHOWN} more' * (len(names) > SHOWN)}"
    file = store.offending_path(step)
    told = f"the loss or the gradient was not finite at step {step}, samples: {listed} (see {file})"
    row = updater.skipped_in_a_row
    if row > most:
        raise UserError(
            f"{told}. {row} updates in a row were skipped, more than update.max_skipped={most}. Lower "
            "update.learning_rate, or set model.dtype=float32 to see whether it is the precision"
        )
    return f"update skipped: {told}"
