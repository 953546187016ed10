"""What a training step spends on neither play nor update: `python -m benchmarks.sync`.

Runs the real trainer on `recipes/nano.yaml` in one process and reads the seconds it writes into the run. Play: dealing
and games. Update: packing, scores, forward, backward, optimizer. The rest: credit, metrics, gathering, checks of sight,
and everything that is written: games, pictures, figures. The limit is that of matrix products: their share in the whole
step's seconds is told, which is what is left to gain.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from benchmarks._common import Goal, flops_of, middle, options, reached, report, spent
from vision_zero.config import load_config
from vision_zero.distributed import make_accelerator
from vision_zero.runs.reporter import Reporter
from vision_zero.runs.store import Metrics, RunStore
from vision_zero.train import Trainer
from vision_zero.types import Episode, ImagePair

GOAL = 0.05
RECIPE = Path(__file__).parents[1] / "recipes" / "nano.yaml"
"""The recipe of `make demo`."""


class Recorder(Reporter):
    """The reporter of a run, which also keeps what a step says of its seconds."""

    seconds: Mapping[str, float]

    def step(self, step: int, metrics: Metrics, episodes: Sequence[Episode], pairs: Iterable[ImagePair]) -> None:
        """Store and show as ever."""
        super().step(step, metrics, episodes, pairs)
        self.seconds = {k: float(v) for k, v in metrics.items() if k.startswith("seconds/")}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--workers", type=int, default=0, help="also with so many that make the next step's pictures")
    asked = parser.parse_args(arguments)
    without, share = run(asked.recipe, asked.games, asked.repeats, 0)
    phases = sorted({name for step in without for name in step} - {"seconds/step"})
    shares = {name: [step.get(name, 0.0) / step["seconds/step"] for step in without] for name in phases}
    rest = [1 - sum(step.get(name, 0.0) for name in phases) / step["seconds/step"] for step in without]
    notes = [f"a step: {share}", told(without, "without workers")]
    if asked.workers:
        with_workers, _ = run(asked.recipe, asked.games, asked.repeats, asked.workers)
        notes.append(told(with_workers, f"{asked.workers} workers"))
    report(
        f"sync: {asked.repeats} steps of {asked.games} games, {asked.recipe.stem}",
        ("phase", "share of the step's seconds"),
        [(name.removeprefix("seconds/"), middle(shares[name], ".1%")) for name in phases]
        + [("rest", middle(rest, ".1%"))],
        notes,
        [Goal("neither play nor update", statistics.median(rest), GOAL, "at most")],
        asked.json,
    )


def run(recipe: Path, games: int, repeats: int, workers: int) -> tuple[list[dict[str, float]], str]:
    """Seconds of so many steps, by name, and what of the limit a step reached."""
    settings = [f"games_per_step={games}", "processes=1", "evaluation.games=0", f"rollouts.workers={workers}"]
    config = load_config(recipe, settings)
    steps: list[dict[str, float]] = []
    with TemporaryDirectory() as folder:
        console = Console(quiet=True)
        store = RunStore.create(Path(folder), config)
        trainer = Trainer(config, store, make_accelerator(cpu=not torch.cuda.is_available()), console)
        with Recorder(store, config.steps, 0, console) as recorder:
            # The first step reads libraries, and looks at sight, which later ones do every `sight_check_every`.
            trainer.step(recorder)
            trainer.dealer.wait()
            for _ in range(repeats):
                whole = spent(lambda: trainer.step(recorder)).wall
                steps.append({**recorder.seconds, "seconds/step": whole})
            flops = flops_of(lambda: trainer.step(recorder))  # of one more step: counting takes time
        trainer.dealer.close()
    return steps, reached(flops / statistics.median(step["seconds/step"] for step in steps), trainer.vlm)


def told(steps: Sequence[Mapping[str, float]], how: str) -> str:
    """Seconds of dealing, of play and of all of a step."""
    names = ("deal", "play", "step")
    return f"{how}: " + ", ".join(f"{n} {middle([step[f'seconds/{n}'] for step in steps])} s" for n in names)


if __name__ == "__main__":
    main()
