"""The memory bill of one device: what lies there, in the two phases of a step that need most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vision_zero.config import RunConfig
from vision_zero.models.base import FEATURE_CACHE_BYTES
from vision_zero.models.tree_attention import BLOCK, most_branches, why_apart
from vision_zero.plan.longest import LongestGame
from vision_zero.plan.shapes import Shape
from vision_zero.types import Stage

GIB = 2**30
MASTER, MOMENTS = 4, 8
"""Bytes that the optimizer keeps for a weight: a float32 master where the weight is not float32, two moments."""
LOGIT_BYTES = 16
"""Bytes a logit takes at the worst moment of the backward: float32, with its gradient and what makes it."""
MOST_LOGITS = 2**27
"""The update reads no more at once (`update/scorer.py`)."""
REDUCE_BYTES = 2 * 2**28
"""Several processes sum gradients in pieces of 256 MiB, of which a copy is made."""
BUCKET = 5 * 10**8
"""Gradients that DeepSpeed sums at once, its default."""
SLACK = GIB
"""On a GPU: CUDA's own context, and memory lost between blocks."""


@dataclass(frozen=True)
class Line:
    """One item of the bill, in bytes, while games are played and while weights are updated."""

    name: str
    play: int
    update: int


@dataclass(frozen=True)
class Bill:
    """Everything one device holds."""

    lines: tuple[Line, ...]

    @property
    def play(self) -> int:
        """Bytes while games are played."""
        return sum(line.play for line in self.lines)

    @property
    def update(self) -> int:
        """Bytes at the worst moment of an update."""
        return sum(line.update for line in self.lines)

    @property
    def peak(self) -> int:
        """The worse of the two."""
        return max(self.play, self.update)


def steps_of(config: RunConfig) -> list[tuple[Stage, tuple[Stage, ...]]]:
    """Stages that a run can train, each with the stages whose samples its update reads."""
    both = (Stage.CLUE, Stage.DECISION)
    only = {"clue": (Stage.CLUE,), "decision": (Stage.DECISION,)}.get(config.credit.stages.schedule, both)
    out: list[tuple[Stage, tuple[Stage, ...]]] = []
    for stage in only:
        all_read = config.credit.anchor > 0 or (stage is Stage.CLUE and config.credit.train_both_in_clue)
        out.append((stage, both if all_read else (stage,)))
    return out


def bill(config: RunConfig, shape: Shape, game: LongestGame, devices: int = 1, gpu: bool = True) -> Bill:
    """The bill of one of `devices` devices; each plays its share of the games with the whole model."""
    games = math.ceil(config.games_per_step / devices)
    static = _static(config, shape, game, devices)
    kept, work = _update(config, shape, game, games)
    lines = [
        *static,
        Line("gradients", 0, _gradients(config, shape, kept + work, devices)),
        Line("kept for the backward", 0, kept),
        Line("a layer at work, or logits", 0, work),
        *_engine(config, shape, game, games, gpu),
    ]
    if gpu:
        lines.append(Line("CUDA context, slack", SLACK, SLACK))
    return Bill(tuple(lines))


def checkpoint_bytes(shape: Shape) -> int:
    """Bytes of one checkpoint on disk: weights (or the adapter), masters and moments."""
    weights = MASTER * shape.exact + shape.itemsize * shape.rounded if shape.adapter else shape.weights
    return weights + MASTER * shape.rounded + MOMENTS * shape.trained


def _gradients(config: RunConfig, shape: Shape, activations: int, devices: int) -> int:
    if config.devices.shard == "none":
        # The last weights' gradients, not yet moved to their masters, come when activations have gone.
        late = max(0, shape.rounded * shape.itemsize - activations)
        return MASTER * shape.trained + late + (REDUCE_BYTES if devices > 1 else 0)
    # What is summed and cut at once is there whole: in the dtype of the weights, and in float32.
    at_once = BUCKET if config.devices.shard in ("zero2", "zero3") else _outside(shape) + _layer(shape)
    return MASTER * shape.trained // devices + min(shape.trained, at_once) * (MASTER + shape.itemsize)


def _outside(shape: Shape) -> int:
    """Weights that are in no decoder layer and no frozen vision tower."""
    heads = 1 if getattr(shape.config, "tie_word_embeddings", False) else 2
    embeddings = heads * int(shape.text.vocab_size) * int(shape.text.hidden_size)
    return embeddings + (shape.vision_parameters if shape.vision_trained else 0)


def _layer(shape: Shape) -> int:
    """Weights of a decoder layer."""
    kept_whole = 0 if shape.vision_trained else shape.vision_parameters
    return (shape.parameters - kept_whole - _outside(shape)) // int(shape.text.num_hidden_layers)


def _weights(config: RunConfig, shape: Shape, devices: int) -> list[Line]:
    """Weights and what the optimizer keeps. In pieces of both, a layer and the next are whole while they work."""
    optimizer = MASTER * shape.rounded + MOMENTS * shape.trained
    if config.devices.shard == "none":
        return [Line("weights", shape.weights, shape.weights), Line("optimizer", optimizer, optimizer)]
    optimizer = (MASTER + MOMENTS) * shape.trained // devices
    lines = [Line("optimizer, a piece", optimizer, optimizer)]
    if config.devices.shard == "zero2":
        return [Line("weights", shape.weights, shape.weights), *lines]
    vision = 0 if shape.vision_trained else shape.vision_weights
    together = vision + (_outside(shape) + 2 * _layer(shape)) * shape.itemsize
    # The pieces of `fsdp` are its masters.
    cut = shape.weights - vision - (shape.trained * shape.itemsize if config.devices.shard == "fsdp" else 0)
    piece = max(0, cut) // devices
    return [Line("weights", shape.weights, together), Line("weights, a piece", piece, piece), *lines]


def _static(config: RunConfig, shape: Shape, game: LongestGame, devices: int) -> list[Line]:
    copied = 0 if shape.adapter else shape.weights - (0 if shape.vision_trained else shape.vision_weights)
    present = config.devices.reference == "device"
    plays = present or bool(config.rollouts.opponents) or config.evaluation.games > 0
    a_picture = game.picture_tokens * int(shape.text.hidden_size) * shape.itemsize
    pictures = 2 * min(getattr(config.pairs, "count", 10**6), config.steps * config.games_per_step)
    cached = min(FEATURE_CACHE_BYTES, pictures * a_picture)
    return [
        *_weights(config, shape, devices),
        Line("reference copy", copied * plays, copied * present),
        Line("picture features", cached, cached),
    ]


def _update(config: RunConfig, shape: Shape, game: LongestGame, games: int) -> tuple[int, int]:
    """Bytes kept by the forward of a full batch, and bytes at work in its backward."""
    worst = (0, 0)
    for _, read in steps_of(config):
        width, rows, trees = rows_of(config, shape.text, game, games, read)
        kept, work = _decoder(config, shape, width, rows, max(len(r.ids) + r.budget for r in game.requests))
        seen = math.ceil(rows * width / max(1, sum(trees) // len(trees)))
        if shape.vision_trained:
            kept_by_tower, tower_at_work = _tower(config, shape, seen * game.picture_tokens)
            kept, work = kept + kept_by_tower, max(work, tower_at_work)
        logits = min(rows * width, MOST_LOGITS // int(shape.text.vocab_size)) * int(shape.text.vocab_size)
        worst = max(worst, (kept, max(work, LOGIT_BYTES * logits)), key=sum)
    return worst


def rows_of(
    config: RunConfig, text: Any, game: LongestGame, games: int, read: Sequence[Stage]
) -> tuple[int, int, list[int]]:
    """Width and number of the rows of a full batch, and the lengths of a game's trees, which stand in one row."""
    limit = config.update.tokens_per_batch
    if packed(config, text):
        trees = [min(length, limit) for length in game.trees(read)]
        filled = 0
        for length in sorted(trees * games, reverse=True):
            filled += length if filled + length <= limit else 0
        return filled, 1, trees
    trees = [len(r.ids) + r.budget - 1 for r in game.requests if r.stage in read for _ in range(r.draws)]
    width = max(trees)
    rows = max(1, min(limit // width, math.ceil(games * sum(trees) / width)))
    return width, rows, trees


def packed(config: RunConfig, text: Any) -> bool:
    """Whether the update packs samples as trees. `text`: the language model's configuration."""
    return config.update.pack == "tree" and why_apart(config.model.attention, text) is None


def _decoder(config: RunConfig, shape: Shape, width: int, rows: int, longest: int) -> tuple[int, int]:
    text, nodes = shape.text, width * rows
    layers, heads = int(text.num_hidden_layers), int(text.num_attention_heads)
    layer, mask = nodes * shape.saved // layers, 0
    if packed(config, text):
        # a block of nodes attends to at most its own and the longest path above: allowed or not, what is added to
        # the scores of heads that share keys, and in every layer the keys and values of each block
        keys = min(width, longest + BLOCK)
        mask = nodes * keys * (1 + shape.itemsize * heads // int(text.num_key_value_heads))
        layer += math.ceil(nodes / BLOCK) * keys * shape.kv // layers
    transient = nodes * shape.itemsize * (3 * int(text.intermediate_size) + 2 * int(text.hidden_size))
    if config.model.gradient_checkpointing:
        return layers * nodes * int(text.hidden_size) * shape.itemsize + mask, layer + transient
    return layers * layer + mask, transient


def _tower(config: RunConfig, shape: Shape, tokens: int) -> tuple[int, int]:
    hidden, inner, layers = _vision(shape)
    patches = tokens * shape.family.patches_per_token(shape.config)
    layer = patches * shape.itemsize * (8 * hidden + 4 * inner)
    if config.model.gradient_checkpointing:
        return layers * patches * hidden * shape.itemsize, layer
    return layers * layer, patches * shape.itemsize * 3 * inner


def _engine(config: RunConfig, shape: Shape, game: LongestGame, games: int, gpu: bool) -> list[Line]:
    """Transformers, also where it plays the frozen start for a vLLM that has only the trained weights; vLLM, which
    takes `rollouts.vllm.memory` of the device and needs at least this."""
    rollouts = config.rollouts
    frozen_apart = not shape.adapter and (config.evaluation.games > 0 or len(rollouts.opponents) > 0)
    lines = _play(config, shape, game, games) if rollouts.engine == "hf" or frozen_apart else []
    if rollouts.engine == "vllm":
        least = shape.weights + rollouts.vllm.context * shape.kv
        lines.append(Line("vLLM: weights, one prompt", least, 0 if gpu and rollouts.vllm.sleep else least))
    return lines


def _play(config: RunConfig, shape: Shape, game: LongestGame, games: int) -> list[Line]:
    """The tick that needs most: keys and values, reading its prompts, the vision tower."""
    text = shape.text
    layers, hidden = int(text.num_hidden_layers), int(text.hidden_size)
    worst = (0, 0)
    for tick in {r.tick for r in game.requests}:
        asked = [r for r in game.requests if r.tick == tick]
        rows = min(config.rollouts.batch_size, games * sum(r.draws for r in asked))
        draws = max(r.draws for r in asked)
        distinct = math.ceil(rows / draws)
        length, budget = max(len(r.ids) for r in asked), max(r.budget for r in asked)
        logits = 12 * rows * int(text.vocab_size)
        # drafts of a prompt share its keys and values if attention can
        branches = most_branches([draws], length, budget) if config.model.attention == "sdpa" else 1
        stores = distinct * math.ceil(draws / branches) * (length + budget * branches) * shape.kv
        # what each draft attends to, as a bool a column, twice when it grows, and as what is added to scores
        groups = int(text.num_attention_heads) // int(text.num_key_value_heads)
        seen = rows * (length + budget * branches) * (3 + shape.itemsize * (1 + groups))
        # one layer's keys and values are copied when rows leave
        growing = stores * (layers + 1) // layers + seen + logits
        done = distinct * length * shape.kv
        at_once = min(distinct * length, max(length, config.rollouts.tokens_per_read))
        # allowed or not is a byte a pair; attention and the layer behind it are not at work together
        masked = config.model.attention != "flash_attention_2"
        attention = 6 * hidden + (length if masked else 0)
        busy = max(attention, 3 * int(text.intermediate_size) + 3 * hidden)
        reading = done + at_once * (shape.kv + shape.itemsize * busy + (length if masked else 0))
        loading = done + stores
        worst = max(worst, (growing, max(0, reading - growing, loading - growing)), key=sum)
    wide, inner, _ = _vision(shape)
    seen = min(config.rollouts.batch_size, 2 * games) if shape.vision_trained else 1
    patches = seen * game.picture_tokens * shape.family.patches_per_token(shape.config)
    tower = patches * shape.itemsize * (3 * inner + 4 * wide)
    # at most every prompt of a tick, and one of each picture from before
    prompts = 2 + max(sum(r.tick == tick for r in game.requests) for tick in {r.tick for r in game.requests})
    trunks = games * prompts * len(game.longest.ids) * shape.kv
    return [
        Line("beginnings of prompts, kept", min(int(config.rollouts.trunk_cache_gib * GIB), trunks), 0),
        Line("keys and values", worst[0], 0),
        Line("more while prompts are read", worst[1], 0),
        Line("vision", tower, 0),
    ]


def _vision(shape: Shape) -> tuple[int, int, int]:
    """Width, inner width and layers of the vision tower."""
    vision = shape.config.vision_config
    layers = getattr(vision, "depth", None) or vision.num_hidden_layers
    return int(vision.hidden_size), int(vision.intermediate_size), int(layers)
