"""How good the tiny model is, on scenes that it has never seen: every figure is a share with its interval."""

from __future__ import annotations

import io
import json
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from PIL import Image
from torch import Tensor
from transformers import DynamicCache

from vision_zero.config import ModelConfig
from vision_zero.games.base import PublicClue, View
from vision_zero.games.prompts import clue_messages, vote_messages
from vision_zero.models.base import VLM, load
from vision_zero.models.nano.curriculum import GAME, statement
from vision_zero.models.nano.scenes import Object, Scenes, make_scenes
from vision_zero.models.nano.teacher import sentence
from vision_zero.pairs.clevr.language import ATTRIBUTES, is_true, parse
from vision_zero.seeds import derive_seed
from vision_zero.types import Message, Picture, PicturePart, Role, TextPart

_BATCH = 200
_SEATS, _ROUNDS = 4, 2
_LONGEST = 8
"""Most tokens of a reply that are sampled: the longest sentence has 6, and an end."""

Hits = list[float]


@dataclass(frozen=True)
class Share:
    """A share of `count` cases with its 95 % Wilson interval, as if no two cases were of one game."""

    share: float
    low: float
    high: float
    count: int


def share(hits: Hits) -> Share:
    """The share of what `hits` (1 for yes, 0 for no, or a probability) counts."""
    n = len(hits)
    if not n:
        raise ValueError("no cases to count: measure with more pictures and games")
    p, z = sum(hits) / n, 1.96
    centre, wide = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Share(p, max(0.0, (centre - wide) / (1 + z * z / n)), min(1.0, (centre + wide) / (1 + z * z / n)), n)


def write_report(folder: Path, seed: int, games: int, pictures: int, made: str) -> str:
    """Measure the model in `folder`, write report.json and report.md there, and return the table.

    `made` says in a line how the model was made.
    """
    vlm = load(ModelConfig(path=str(folder), train="language"), "cpu")
    scenes = make_scenes(seed, "held_out", 0, max(games, -(-pictures // 2)))
    shares = {name: share(hits) for name, hits in measure(vlm, scenes, seed, games, pictures).items()}
    size = sum(p.numel() for p in vlm.model.parameters())
    lines = [f"| {name} | {s.share:.3f} | {s.low:.3f}-{s.high:.3f} | {s.count} |" for name, s in shares.items()]
    table = "\n".join(["| measure | share | 95 % interval | cases |", "|---|---|---|---|", *lines])
    figures = {"made": made, "seed": seed, "parameters": size, "shares": {name: vars(s) for name, s in shares.items()}}
    (folder / "report.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(f"{_INTRODUCTION.format(size=size, made=made)}\n{table}\n", encoding="utf-8")
    return table


_INTRODUCTION = """# The tiny model

{size:,} parameters, made by `vision-zero nano make`: {made}.

Measured on held-out CLEVR-like pictures of 96x64 with 3 to 6 objects; a spy's picture differs in the shape and
colour of 2 objects. Games: 3 civilians and a spy, 2 rounds, everything sampled at temperature 1 unless it says
greedy. The perfect reader sees every object, hears the same clues and accuses whoever said most that is false of
the common picture. It votes for a seat drawn by lot if there are several; blind guessing would be right in a third.
"""


def measure(vlm: VLM, scenes: Scenes, seed: int, games: int, pictures: int) -> dict[str, Hits]:
    """All cases of all measures, by name: questions on the first `pictures` pictures, games on the first pairs."""
    shown = _pictures(scenes)
    return {
        **_reading(vlm, scenes, shown[:pictures]),
        **_yes_no(vlm, scenes, shown[:pictures], Random(derive_seed(seed, "report", "statements"))),
        **_play(vlm, scenes, shown, Random(derive_seed(seed, "report", "games")), games),
    }


def _pictures(scenes: Scenes) -> list[Picture]:
    out = []
    for pixels in scenes.images:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        out.append(Picture(file.getvalue()))
    return out


def _reading(vlm: VLM, scenes: Scenes, pictures: Sequence[Picture]) -> dict[str, Hits]:
    """Greedy answers on one attribute of an object that all its other attributes tell from the rest."""
    names: list[str] = []
    values: list[str] = []
    asked: list[tuple[Message, ...]] = []
    for picture, scene in zip(pictures, scenes.described, strict=False):
        for name in ATTRIBUTES:
            others = [n for n in ATTRIBUTES if n != name]
            descriptions = [sentence(o, others) for o in scene]
            for obj, words in zip(scene, descriptions, strict=True):
                if descriptions.count(words) == 1:
                    names.append(name)
                    values.append(obj[name])
                    asked.append(_question(picture, f"what is {' '.join(words[:-1])} ?\n"))
                    break
    hits: defaultdict[str, Hits] = defaultdict(list)
    for name, value, reply in zip(names, values, answer(vlm, asked, 0.0, 0), strict=True):
        read = parse(reply)
        hits[f"reads {name}"].append(float(read is not None and getattr(read, name) == value))
    return dict(hits)


def _yes_no(vlm: VLM, scenes: Scenes, pictures: Sequence[Picture], rng: Random) -> dict[str, Hits]:
    """Greedy answers on statements, half of them false in a detail or true of the twin only."""
    asked, truths = [], []
    for i, picture in enumerate(pictures):
        for _ in range(2):
            text, truth = statement(rng, scenes.described[i], scenes.described[i ^ 1])
            asked.append(_question(picture, text))
            truths.append("yes" if truth else "no")
    replies = answer(vlm, asked, 0.0, 0)
    return {"yes/no": [float(reply == truth) for reply, truth in zip(replies, truths, strict=True)]}


def _play(vlm: VLM, scenes: Scenes, pictures: Sequence[Picture], rng: Random, games: int) -> dict[str, Hits]:
    spies = [rng.randrange(_SEATS) for _ in range(games)]
    clues: list[list[PublicClue]] = [[] for _ in range(games)]
    hits: defaultdict[str, Hits] = defaultdict(list)

    def view(game: int, seat: int) -> View:
        role = Role.SPY if seat == spies[game] else Role.CIVILIAN
        return View(seat, role, _SEATS, pictures[2 * game + (role is Role.SPY)], tuple(clues[game]))

    for number in range(1, _ROUNDS + 1):
        for seat in range(_SEATS):
            asked = [clue_messages(view(g, seat), number, GAME) for g in range(games)]
            for g, text in enumerate(answer(vlm, asked, 1.0, rng.getrandbits(62))):
                spy = seat == spies[g]
                truth = is_true(text, {"objects": scenes.described[2 * g + spy]})
                who = "spies'" if spy else "civilians'"
                hits[f"{who} clues true of their own picture"].append(float(truth is True))
                hits["clues in the language"].append(float(truth is not None))
                if spy:
                    told = is_true(text, {"objects": scenes.described[2 * g]}) is not True
                    hits["spies' clues false of the common picture"].append(float(told))
                clues[g].append(PublicClue(seat, number, "" if truth is None else text))

    voters = [(g, seat) for g in range(games) for seat in range(_SEATS) if seat != spies[g]]
    asked = [vote_messages(view(g, seat), GAME) for g, seat in voters]
    for how, temperature in (("sampled", 1.0), ("greedy", 0.0)):
        replies = answer(vlm, asked, temperature, rng.getrandbits(62))
        hits[f"votes against the spy, {how}"] = [
            float(r == str(spies[g] + 1)) for (g, _), r in zip(voters, replies, strict=True)
        ]
        hits[f"abstentions, {how}"] = [float(r == "n/a") for r in replies]
    hits["votes against the spy, perfect reader"] = [
        perfect_vote(clues[g], seat, scenes.described[2 * g]).get(spies[g], 0.0) for g, seat in voters
    ]
    return dict(hits)


def perfect_vote(clues: Sequence[PublicClue], seat: int, scene: Sequence[Object]) -> dict[int, float]:
    """Chances with which a voter that sees everything accuses each seat: most false clues, ties drawn by lot."""
    false = [0] * _SEATS
    for clue in clues:
        false[clue.seat] += not is_true(clue.text, {"objects": scene})
    others = [i for i in range(_SEATS) if i != seat]
    suspects = [i for i in others if false[i] == max(false[j] for j in others)]
    return dict.fromkeys(suspects, 1 / len(suspects))


def _question(picture: Picture, text: str) -> tuple[Message, ...]:
    return (Message("user", (PicturePart(picture), TextPart(text))),)


def answer(vlm: VLM, asked: Sequence[tuple[Message, ...]], temperature: float, seed: int) -> list[str]:
    """One reply to every prompt, in order; temperature 0 is greedy."""
    generator = torch.Generator().manual_seed(seed)

    def pick(scores: Tensor) -> Tensor:
        if temperature == 0:
            return scores.argmax(-1)
        return torch.multinomial((scores / temperature).softmax(-1), 1, generator=generator)[:, 0]

    return [reply for i in range(0, len(asked), _BATCH) for reply in _answer_batch(vlm, asked[i : i + _BATCH], pick)]


def _answer_batch(vlm: VLM, asked: Sequence[tuple[Message, ...]], pick: Callable[[Tensor], Tensor]) -> list[str]:
    prompts = [vlm.encode(messages) for messages in asked]
    pictures = [p.picture for messages in asked for p in messages[0].parts if isinstance(p, PicturePart)]
    longest = max(len(p.ids) for p in prompts)
    ids = torch.tensor([(vlm.pad_id,) * (longest - len(p.ids)) + p.ids for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p.ids)) + [1] * len(p.ids) for p in prompts])
    places = torch.zeros(3, len(prompts), longest + _LONGEST, dtype=torch.long)
    for b, p in enumerate(prompts):
        places[:, b, longest - len(p.ids) :] = vlm.positions(p, _LONGEST)
    cache = DynamicCache()
    said: list[Tensor] = []
    with vlm.evaluating():
        hidden = vlm.forward_hidden(ids, mask, places[:, :, :longest], pictures, cache)
        for k in range(_LONGEST):
            said.append(pick(vlm.mask_forbidden(vlm.logits(hidden[:, -1]))))
            if k + 1 == _LONGEST:
                break
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            at = longest + k
            hidden = vlm.forward_hidden(said[-1][:, None], mask, places[:, :, at : at + 1], [], cache)
    replies = []
    for row in torch.stack(said, dim=1).tolist():
        end = next((k for k, token in enumerate(row) if token in vlm.end_ids), len(row))
        replies.append(vlm.decode(row[:end]))
    return replies
