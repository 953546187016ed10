"""How fast this device is with this package, for the plan's table: `python -m benchmarks.calibrate [--write NAME]`.

Measures a random model's forward with its backward, its reading of prompts, and one more token of every row, as the
update and the engine do them. `--write NAME` puts the figures into the table of devices that `vision-zero plan` reads.
On a GPU give `--dtype bfloat16` and the larger model. `vision-zero plan` then marks its seconds as an estimate.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import DynamicCache

from benchmarks._common import machine, spent
from benchmarks._models import SIZES, load_random
from vision_zero.models.base import VLM
from vision_zero.plan import devices
from vision_zero.plan.devices import Speed

TOKENS, ROWS = 2048, 16


def measure(vlm: VLM, repeats: int, tokens: int = TOKENS, rows: int = ROWS) -> Speed:
    """The three figures of `Speed`, medians of `repeats`: in operations a second of wall time, and seconds."""
    language = sum(p.numel() for n, p in vlm.network.named_parameters() if "visual" not in n)
    layers = int(vlm.network.config.get_text_config().num_hidden_layers)
    ids = torch.full((1, tokens), vlm.pad_id, device=vlm.device)
    at = torch.arange(tokens, device=vlm.device).expand(vlm.family.position_axes, 1, tokens)

    def update() -> None:
        vlm.forward_hidden(ids, None, at, ()).float().square().mean().backward()
        vlm.model.zero_grad(set_to_none=True)

    def read() -> None:
        with vlm.evaluating():
            vlm.forward_hidden(ids, None, at, ())

    cache = DynamicCache()
    with vlm.evaluating():
        start = ids[:, : tokens // 4].expand(rows, -1)
        vlm.forward_hidden(start, None, at[:, :, : tokens // 4].expand(-1, rows, -1), (), cache)

    def one_more() -> None:
        seen = cache.get_seq_length()
        mask = torch.ones(rows, seen + 1, dtype=torch.long, device=vlm.device)
        with vlm.evaluating():
            vlm.forward_hidden(
                ids[:, :1].expand(rows, 1), mask, at[:, :, seen : seen + 1].expand(-1, rows, -1), (), cache
            )

    def seconds(act: Callable[[], Any]) -> float:
        act()
        return statistics.median(spent(act).wall for _ in range(repeats))

    return Speed(
        update=6 * language * tokens / seconds(update),
        read=2 * language * tokens / seconds(read),
        layer=seconds(one_more) / layers,
        where="",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=list(SIZES), default="tiny")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--write", metavar="NAME", help="the device's name in the table")
    asked = parser.parse_args()
    device = Accelerator(cpu=not torch.cuda.is_available()).device
    vlm = load_random(asked.model, dtype=asked.dtype)
    vlm.model.to(device)
    found = measure(vlm, asked.repeats)
    where = f"{machine()}; python -m benchmarks.calibrate --model {asked.model} --dtype {asked.dtype}"
    entry = {
        "update": round(found.update),
        "read": round(found.read),
        "layer": float(f"{found.layer:.3g}"),
        "where": where,
    }
    print(json.dumps(entry, indent=1))
    if asked.write:
        path = Path(str(files(devices.__package__).joinpath("devices.json")))
        table = json.loads(path.read_text(encoding="utf-8"))
        table.setdefault(asked.write, {"memory_gib": None})["measured"] = entry
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in table.items())
        path.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
