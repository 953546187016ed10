"""Pairs as a Hugging Face dataset: parquet files that hold the pictures, and a card."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vision_zero.errors import UserError
from vision_zero.pairs.base import Split
from vision_zero.pairs.folder import is_held_out
from vision_zero.pairs.reading import Problem
from vision_zero.types import ImagePair, Picture

_GROUP = 64
"""Rows read at once by who streams."""
_SHARD_BYTES = 400 << 20
_TEXTS = ("id", "changes", "original_facts", "modified_facts", "source", "licence")
_PICTURES = ("original", "modified")
_LICENCES = frozenset({"apache-2.0", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0", "cc0-1.0", "mit"})
"""Licences that the Hub knows by these names, and that are not called `other` in the head of a card."""


@dataclass
class Exported:
    """What is in an exported set."""

    counts: dict[Split, int] = field(default_factory=lambda: {"train": 0, "held_out": 0})
    singles: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    """Of pictures, by split."""
    problems: list[Problem] = field(default_factory=list)


def export_pairs(items: Iterable[ImagePair | Problem], out: Path, title: str, remake: str) -> Exported:
    """Write `data/SPLIT-NNNNN.parquet` and `README.md`; `datasets.load_dataset(out)` reads them.

    Columns: `id`, `original` and `modified` (pictures; the latter null for single ones), `changes` and
    `{original,modified}_facts` (JSON texts), `source`, `licence`. Splits are those of the folder. `remake` is the
    command that makes the pairs again; the card shows it. Equal pairs give equal bytes.

    Raises `UserError` if there is nothing to export, if the folder is not empty, or without pyarrow.
    """
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as e:
        raise UserError("writing parquet tables needs pyarrow: pip install 'vision-zero[data]'") from e
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: choose another --out")
    # the whole folder appears at once; what a killed export left is begun anew
    unfinished = out.with_name(f".{out.name}.partial")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    (unfinished / "data").mkdir(parents=True)
    picture = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    columns = {c: picture if c in _PICTURES else pyarrow.string() for c in ("id", *_PICTURES, *_TEXTS[1:])}
    features = {c: {"_type": "Image"} if c in _PICTURES else {"dtype": "string", "_type": "Value"} for c in columns}
    schema = pyarrow.schema(list(columns.items()), {"huggingface": json.dumps({"info": {"features": features}})})
    done = Exported()
    shards = {split: _Shards(parquet, pyarrow, schema, unfinished / "data", split) for split in done.counts}
    for item in items:
        if isinstance(item, Problem):
            done.problems.append(item)
            continue
        split: Split = "held_out" if is_held_out(item.id) else "train"
        row = _row(item)
        shards[split].add(row)
        done.bytes[split] += _bytes(row)
        done.counts[split] += 1
        done.singles += item.modified is None
        done.sources[item.source] += 1
        done.licences[item.licence] += 1
    for shard in shards.values():
        shard.close()
    if not sum(done.counts.values()):
        raise UserError(f"nothing to export: {done.problems[0] if done.problems else 'there are no pairs'}")
    (unfinished / "README.md").write_text(_card(done, title, remake), encoding="utf-8")
    unfinished.rename(out)
    return done


def remake_command(folder: Path) -> str:
    """How a folder of pairs came about, as it says itself (`made.json` or `imported.json`)."""
    for name, command in (("made.json", "make"), ("imported.json", "import")):
        file = folder / name
        if file.exists():
            try:
                record = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as e:
                raise UserError(f"{file} is damaged ({e}): remove it, and say --remake") from e
            settings = dict(record.get("pairs", {}) if command == "make" else record)
            lines = [f"vision-zero pairs {command} {settings.pop('kind', '')} --out DIR"]
            if command == "make":
                # where things lie on one machine is nobody else's business
                for private, public in (("path", " --photos PHOTOS"), ("assets", " --assets CLONE"), ("cache", "")):
                    lines[0] += public if settings.pop(private, None) else ""
                lines[0] += f" --seed {record['seed']} --split {record['split']}"
                lines[0] += "".join(f" --set 'pairs.{k}={json.dumps(v)}'" for k, v in settings.items() if v is not None)
            else:
                lines += [f"# {k}: {json.dumps(v)}" for k, v in settings.items() if v]
            return "\n".join(lines)
    raise UserError(f"{folder} does not say how it was made: say it with --remake")


class _Shards:
    """The parquet files of a split, begun anew when one is large."""

    def __init__(self, parquet: Any, arrow: Any, schema: Any, folder: Path, split: Split) -> None:
        self._parquet, self._arrow, self._schema, self._folder, self._split = parquet, arrow, schema, folder, split
        self._rows: list[dict[str, Any]] = []
        self._writer: Any = None
        self._number = self._bytes = 0

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        self._bytes += _bytes(row)
        if len(self._rows) == _GROUP:
            self._flush()
        if self._bytes >= _SHARD_BYTES:
            self.close()

    def close(self) -> None:
        """Finish the file that is open, if one is."""
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer, self._bytes, self._number = None, 0, self._number + 1

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            file = self._folder / f"{self._split}-{self._number:05d}.parquet"
            self._writer = self._parquet.ParquetWriter(file, self._schema)
        self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []


def _bytes(row: dict[str, Any]) -> int:
    return sum(len(row[c]["bytes"]) for c in _PICTURES if row[c])


def _row(pair: ImagePair) -> dict[str, Any]:
    return {
        "id": pair.id,
        "original": _cell(pair, pair.original, "original"),
        "modified": _cell(pair, pair.modified, "modified"),
        "changes": _text([asdict(change) for change in pair.changes]),
        "original_facts": _text(pair.original.facts),
        "modified_facts": _text(pair.modified.facts if pair.modified else None),
        "source": pair.source,
        "licence": pair.licence,
    }


def _cell(pair: ImagePair, picture: Picture | None, which: str) -> dict[str, Any] | None:
    return {"bytes": picture.data, "path": f"{pair.id}_{which}.png"} if picture else None


def _text(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _card(done: Exported, title: str, remake: str) -> str:
    splits = [split for split, count in done.counts.items() if count]
    known = done.licences.keys() - {""}
    licence = min(known).lower() if len(known) == 1 and "" not in done.licences else ""
    head = {
        "pretty_name": title,
        **({"license": licence if licence in _LICENCES else "other"} if known else {}),
        # says how many rows there are before one is read
        "dataset_info": {
            "splits": [{"name": s, "num_bytes": done.bytes[s], "num_examples": done.counts[s]} for s in splits]
        },
        "configs": [
            {"config_name": "default", "data_files": [{"split": s, "path": f"data/{s}-*.parquet"} for s in splits]}
        ],
        "tags": ["vision-zero", "image-pairs"],
    }
    total = sum(done.counts.values())
    rows = [f"| {split} | {done.counts[split]} |" for split in splits]
    return "\n".join(
        [
            "---",
            yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip(),
            "---",
            f"# {title}",
            "",
            f"{total - done.singles} pairs of pictures that differ in a few things, {done.singles} single pictures.",
            "`changes` says what differs; `original_facts` and `modified_facts` what is known to be in them (JSON).",
            "",
            "| split | rows |",
            "|---|---|",
            *rows,
            "",
            "## Source",
            "",
            *_counted(done.sources, "not stated"),
            "",
            "## Licence",
            "",
            *_counted(done.licences, "not stated: ask the source before you share it"),
            "",
            "## How to remake it",
            "",
            "```sh",
            remake,
            "```",
            "",
        ]
    )


def _counted(names: Counter[str], without: str) -> Iterator[str]:
    for name, count in sorted(names.items()):
        yield f"- {name or without} ({count})"
