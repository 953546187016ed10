"""Our own questions as a benchmark for the tools: a table in VLMEvalKit's format, which both of them read."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_zero.errors import UserError
from vision_zero.evaluate.probes import YES_NO, Probe, messages_of
from vision_zero.runs.files import write_atomic

COLUMNS = ("index", "image", "question", "answer", "category", "pair")


@dataclass(frozen=True)
class ProbeFile:
    """Yes-or-no questions in a table: rows numbered from 0, pictures as files in base64.

    `name` changes with every byte of it, for VLMEvalKit keeps pictures by the name of a benchmark. `pairs` are the
    pairs that the rows ask about, in the order of rows.

    Example: `ProbeFile("VisionZeroProbes_3f9a0c1d", b"index\\timage...", ("clevr-held_out-0-000000", ...))`
    """

    name: str
    data: bytes
    pairs: tuple[str, ...]

    def write(self, folder: Path) -> Path:
        """Put it where a tool looks for it."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.tsv"
        write_atomic(path, self.data)
        return path


def probe_file(probes: Sequence[Probe], wording: str) -> ProbeFile:
    """The yes-or-no questions about one picture among `probes`. Raises `UserError` if there is none."""
    asked = [p for p in probes if p.choices == YES_NO and len(p.pictures) == 1]
    if not asked:
        raise UserError(
            "none of the probes is a yes-or-no question about one picture: --benchmarks probes needs scenes"
        )
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    table.writerow(COLUMNS)
    for index, probe in enumerate(asked):
        [picture] = probe.pictures
        [message] = messages_of(probe, wording)
        question = message.parts[-1].text  # type: ignore[union-attr]
        image = base64.b64encode(picture.data).decode()
        table.writerow([index, image, question, probe.answer.capitalize(), probe.family, probe.pair])
    data = text.getvalue().encode()
    name = f"VisionZeroProbes_{hashlib.sha256(data).hexdigest()[:8]}"
    return ProbeFile(name, data, tuple(p.pair for p in asked))
