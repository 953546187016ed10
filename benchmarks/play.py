"""Games a second, in lock-step with kept prompts over the published schedule: `python -m benchmarks.play`.

The published schedule plays game after game, one `generate` of batch 1 for every clue and one of batch G for the
analyst's votes, and reads every prompt anew. Same engine, same games: what is sampled must be equal, token by token
(in bfloat16 rounding differs with the batch; there it is only counted). Its games cost the same however many there
are, so that fewer of them are timed (`--published-games`); ours are all played at once.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks._common import Goal, flops_of, memory_limit, middle, options, ratios, reached, report, take_turns
from benchmarks._games import config_of, deals_of, model_of, play_ours, play_published, said
from benchmarks._profile import by_kind
from vision_zero.models.base import VLM

GOAL = 20


class Traffic:
    """Tokens that go through the language model, padding included, and the bytes that it must read at least: its
    weights in every pass, keys and values already there."""

    def __init__(self, vlm: VLM) -> None:
        self.bytes = self.passes = self.tokens = 0
        self._model = vlm.backbone.language_model
        self._weights = sum(p.nbytes for p in self._model.parameters())

    def __enter__(self) -> Traffic:
        self._hook = self._model.register_forward_pre_hook(self._count, with_kwargs=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.remove()

    def _count(self, _module: Any, _args: Any, given: dict[str, Any]) -> None:
        stores = [layer.filled.nbytes for layer in given["past_key_values"].layers if layer.store is not None]
        self.bytes += self._weights + sum(stores)
        self.passes += 1
        self.tokens += given["inputs_embeds"].shape[:2].numel()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--published-games", type=int, default=4, help="how many of the games the published way plays")
    asked = parser.parse_args(arguments)
    few = min(asked.published_games, asked.games)
    config, vlm = config_of(asked), model_of(asked)
    deals = deals_of(config, asked.games)

    with Traffic(vlm) as traffic:
        flops = flops_of(lambda: play_ours(config, vlm, deals))
    with Traffic(vlm) as alone:
        play_published(config, vlm, deals[:few])
    games: dict[str, list[tuple[int, ...]]] = {}
    ways = {
        "published": lambda: games.update(published=said(play_published(config, vlm, deals[:few]))),
        "ours": lambda: games.update(ours=said(play_ours(config, vlm, deals))),
    }
    runs = take_turns(ways, asked.repeats)
    runs = {name: [s.over(n) for s in runs[name]] for name, n in {"published": few, "ours": asked.games}.items()}
    different = sum(a != b for a, b in zip(games["published"], games["ours"], strict=False))
    if different and config.model.dtype == "float32":
        raise RuntimeError(f"{different} of {len(games['published'])} utterances differ: these are not the same games")
    gain = ratios(runs["published"], runs["ours"])
    seconds = statistics.median(s.steady for s in runs["ours"]) * asked.games
    read = memory_limit()
    prompts = [len(t.utterance.prompt.ids) for e in play_ours(config, vlm, deals[:1]) for t in e.turns]
    report(
        f"play: {asked.games} games of {asked.seats} seats, {asked.rounds} rounds, {asked.votes} votes, "
        f"{asked.model}, {asked.dtype}",
        ("way", "games", "games/s", "CPU s a game", "wall s a game"),
        [
            (
                name,
                few if name == "published" else asked.games,
                f"{1 / statistics.median(s.wall for s in runs[name]):.2f}",
                middle([s.cpu for s in runs[name]], ".3f"),
                middle([s.wall for s in runs[name]], ".3f"),
            )
            for name in ways
        ],
        [
            f"prompts of {min(prompts)} to {max(prompts)} tokens, answers of {asked.answers} at most",
            f"tokens through the model, a game: {alone.tokens / few:,.0f} published, "
            f"{traffic.tokens / asked.games:,.0f} ours",
            f"published / ours: {middle(gain)}; {different} of {len(games['published'])} utterances differ",
            f"ours: {reached(flops / seconds, vlm)}; "
            f"{traffic.bytes / 1e9 / seconds:.1f} GB/s of weights, keys and values in {traffic.passes} passes, "
            f"{traffic.bytes / seconds / read:.0%} of the {read / 1e9:.1f}",
            f"seconds of ours: {by_kind(lambda: play_ours(config, vlm, deals))}",
        ],
        [Goal("games/s over the published schedule", statistics.median(gain), GOAL, "at least")],
        asked.json,
    )


if __name__ == "__main__":
    main()
