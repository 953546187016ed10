"""Speed of making pairs: scene, twin, both pictures, PNG. `python benchmarks/pairs.py [--pairs N]`.

With `--photos DIR`, photos too: each is edited once, by one process, whatever the number of pairs. With `--blender N`,
N pairs by Blender too, its start included.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence
from pathlib import Path

from vision_zero.config import ChartPairs, ClevrPairs, PhotoPairs
from vision_zero.pairs import open_pairs
from vision_zero.pairs.clevr.blender.client import blender
from vision_zero.pairs.made import MadeSource
from vision_zero.types import ImagePair

SETS = {
    "nano 96x64": ClevrPairs(style="nano", width=96, height=64, objects=(3, 6)),
    "clevr 168x112": ClevrPairs(width=168, height=112),
    "clevr 320x240": ClevrPairs(),
    "clevr 480x320": ClevrPairs(width=480, height=320),
    "charts 320x240": ChartPairs(kind="charts", width=320, height=240),
    "charts 480x320": ChartPairs(kind="charts"),
    "charts 800x600": ChartPairs(kind="charts", width=800, height=600),
}


def cpu_seconds() -> float:
    """User and system time of this process and of its finished children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in usages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--photos", type=Path, metavar="DIR", help="a folder of photos to edit")
    parser.add_argument("--blender", type=int, metavar="N", help="pairs drawn by Blender, which must be installed")
    options = parser.parse_args()
    print(f"{'set':<16} {'pairs':>6} {'pairs/s':>8} {'CPU s/pair':>11} {'kB/pair':>8}")
    for name, config in SETS.items():
        source = open_pairs(config.model_copy(update={"count": options.pairs + 1}), 0, "train")
        assert isinstance(source, MadeSource)
        source[options.pairs]  # modules and fonts are loaded once, and not counted
        wall, cpu = time.perf_counter(), cpu_seconds()
        pairs = [source[i] for i in range(options.pairs)]
        report(name, pairs, time.perf_counter() - wall, cpu_seconds() - cpu)
    if options.photos:
        wall, cpu = time.perf_counter(), cpu_seconds()
        photos = open_pairs(PhotoPairs(kind="photos", path=options.photos), 0, "train")
        pairs = [photos[i] for i in range(len(photos))]
        report("photos 480", pairs, time.perf_counter() - wall, cpu_seconds() - cpu)
    if options.blender:
        wall, cpu = time.perf_counter(), cpu_seconds()
        drawn = open_pairs(ClevrPairs(renderer="blender"), 0, "train", as_files=True)
        pairs = [drawn[i] for i in range(options.blender)]
        blender(None).close()  # the time of a child is known when it has ended
        report("blender 320x240", pairs, time.perf_counter() - wall, cpu_seconds() - cpu)


def report(name: str, pairs: Sequence[ImagePair], wall: float, cpu: float) -> None:
    size = sum(len(p.data) for pair in pairs for p in (pair.original, pair.modified) if p) / len(pairs) / 1000
    print(f"{name:<16} {len(pairs):>6} {len(pairs) / wall:>8.1f} {cpu / len(pairs):>11.4f} {size:>8.1f}")


if __name__ == "__main__":
    main()
