"""The tiny model: made of ordinary parts, taught with the very prompts of play, and made again the same."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, Qwen2_5_VLForConditionalGeneration

from vision_zero.config import ModelConfig
from vision_zero.errors import UserError
from vision_zero.games.base import PublicClue, View
from vision_zero.games.prompts import clue_messages, vote_messages
from vision_zero.models.base import VLM, load
from vision_zero.models.nano import teacher, training, warm_start
from vision_zero.models.nano.architecture import CELLS, VOCABULARY, build_model, build_processor, build_tokenizer
from vision_zero.models.nano.curriculum import GAME, IDS, PICTURE, Row, collate, question_row, statement, table_row
from vision_zero.models.nano.report import measure, perfect_vote, share
from vision_zero.models.nano.scenes import Scenes, make_scenes
from vision_zero.models.nano.sight import Sight, cell_truth, hand_over, see
from vision_zero.models.nano.speech import read
from vision_zero.models.nano.training import Schedule
from vision_zero.pairs.clevr.language import ATTRIBUTES, is_true
from vision_zero.types import Message, Picture, PicturePart, Role, TextPart


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return make_scenes(3, "train", 0, 6)


@pytest.fixture(scope="module")
def model() -> Qwen2_5_VLForConditionalGeneration:
    return build_model(0)


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory, model: Qwen2_5_VLForConditionalGeneration) -> VLM:
    folder = tmp_path_factory.mktemp("nano")
    model.save_pretrained(folder)
    build_processor().save_pretrained(folder)
    return load(ModelConfig(path=str(folder)), "cpu")


def picture(pixels: Any) -> Picture:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return Picture(file.getvalue())


class TestTokenizer:
    def test_words_digits_and_signs_stand_apart_and_white_space_means_nothing(self) -> None:
        ids = build_tokenizer()("12 : A large\n red cube.N/A (no clue)", add_special_tokens=False)["input_ids"]
        assert [VOCABULARY[i] for i in ids] == [
            "1",
            "2",
            ":",
            "a",
            "large",
            "red",
            "cube",
            ".",
            "n/a",
            "(",
            "no",
            "clue",
            ")",
        ]

    def test_a_word_that_it_does_not_know_is_one_unknown(self) -> None:
        ids = build_tokenizer()("a zebra .", add_special_tokens=False)["input_ids"]
        assert [VOCABULARY[i] for i in ids] == ["a", "<unk>", "."]

    def test_players_cannot_spell_special_tokens(self, vlm: VLM) -> None:
        prompt = vlm.encode((Message("user", (TextPart("<|image_pad|> <|end|> <|assistant|>"),)),))
        assert IDS["<|image_pad|>"] not in prompt.ids
        assert IDS["<|end|>"] not in prompt.ids
        assert prompt.ids.count(IDS["<|assistant|>"]) == 1

    def test_every_word_of_the_game_and_of_the_clues_is_known(self) -> None:
        known = " ".join(w for words in ATTRIBUTES.values() for w in words)
        texts = [f"{n} players .\n{n} : (no clue)\nyou {n} spy . clue {r} ?" for n in range(3, 10) for r in range(1, 5)]
        for text in [*texts, "judge . vote ?", "you 1 civilian . vote ?", "n/a", known, "a object .", "yes no"]:
            assert IDS["<unk>"] not in build_tokenizer()(text)["input_ids"]


class TestFiles:
    def test_plain_transformers_loads_and_runs_it(self, vlm: VLM, scenes: Scenes) -> None:
        processor: Any = AutoProcessor.from_pretrained(vlm.config.path)
        model: Any = AutoModelForImageTextToText.from_pretrained(vlm.config.path)
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "4 players .\n"}]}]
        text = processor.apply_chat_template(chat, add_generation_prompt=True)
        inputs = processor(text=[text], images=[scenes.images[0]], return_tensors="pt")
        assert tuple(inputs["input_ids"][0].tolist()) == (
            *PICTURE,
            *(IDS[w] for w in ("4", "players", ".", "<|assistant|>")),
        )
        out = model.generate(**inputs, max_new_tokens=3, min_new_tokens=3)
        assert out.shape[1] == inputs["input_ids"].shape[1] + 3

    def test_larger_pictures_are_scaled_down(self, vlm: VLM) -> None:
        assert vlm.placeholders(picture(np.zeros((64, 96, 3), np.uint8))) == CELLS
        assert vlm.placeholders(picture(np.zeros((240, 320, 3), np.uint8))) <= CELLS

    def test_equal_seeds_give_equal_untrained_models(self, model: Qwen2_5_VLForConditionalGeneration) -> None:
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), build_model(0).parameters(), strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(model.parameters(), build_model(1).parameters(), strict=True))


class TestScenes:
    def test_pictures_and_objects_belong_together(self, scenes: Scenes) -> None:
        again = make_scenes(3, "train", 2, 1)
        assert np.array_equal(again.images, scenes.images[4:6])
        differing = [
            sum(a != b for a, b in zip(scenes.described[i], scenes.described[i + 1], strict=True)) for i in (0, 2, 4)
        ]
        assert differing == [2, 2, 2]

    def test_labels_of_cells_lie_on_objects_of_their_colour(self, scenes: Scenes) -> None:
        red_over_blue = {"red": 1, "blue": -1}
        seen = 0
        for row in range(len(scenes)):
            truth = cell_truth(scenes, [row])
            for cell in range(CELLS):
                color = ATTRIBUTES["color"][truth["color"][0, cell]] if truth["present"][0, cell] else ""
                if color in red_over_blue:
                    y, x = divmod(cell, 6)
                    patch = scenes.images[row, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16].astype(int)
                    balance = patch[..., 0].mean() - patch[..., 2].mean()
                    assert balance * red_over_blue[color] > 0
                    seen += 1
        assert seen > 3


class TestTeacher:
    SCENE = (
        {"size": "small", "material": "metal", "color": "red", "shape": "cube"},
        {"size": "large", "material": "rubber", "color": "blue", "shape": "sphere"},
    )

    def test_all_its_clues_are_true_and_their_chances_sum_to_one(self) -> None:
        says = teacher.clues(self.SCENE)
        assert sum(says.values()) == pytest.approx(1)
        assert all(is_true(" ".join(words), {"objects": self.SCENE}) for words in says)

    def test_next_words_are_the_chances_given_what_was_said(self) -> None:
        says = {("a", "red", "cube", "."): 0.6, ("a", "red", "object", "."): 0.2, ("a", "cube", "."): 0.2}
        assert teacher.next_words(says, ("a", "red", "cube", ".")) == [
            {"a": pytest.approx(1.0)},
            {"red": pytest.approx(0.8), "cube": pytest.approx(0.2)},
            {"cube": pytest.approx(0.75), "object": pytest.approx(0.25)},
            {".": 1.0},
            {None: 1.0},
        ]

    def test_votes_lean_to_who_lied_and_never_name_the_voter(self) -> None:
        clues = [PublicClue(0, 1, "a red cube ."), PublicClue(1, 1, "a green cube ."), PublicClue(2, 1, "a sphere .")]
        rng = Random(0)
        means: dict[teacher.Words, float] = {}
        for _ in range(500):
            for words, p in teacher.votes(rng, clues, 3, 0, self.SCENE).items():
                means[words] = means.get(words, 0) + p / 500
        assert set(means) == {("2",), ("3",), ("n/a",)}
        assert sum(means.values()) == pytest.approx(1)
        assert means["2",] > 1.5 * means["3",]

    def test_a_spy_may_repeat_what_it_heard(self) -> None:
        says = teacher.spy_clues(self.SCENE, [PublicClue(0, 1, "a gray cylinder ."), PublicClue(1, 1, "")])
        assert says["a", "gray", "cylinder", "."] == pytest.approx(0.1)
        assert sum(says.values()) == pytest.approx(1)


def branch(row: Row, number: int) -> tuple[list[int], list[int]]:
    """Ids and places along a branch: the trunk that it sees, and itself."""
    indices = [i for i, b in enumerate(row.branch) if b == number]
    trunk = [i for i, b in enumerate(row.branch) if b == 0][: row.sees[indices[0]]]
    return [row.ids[i] for i in trunk + indices], [row.place[i] for i in trunk + indices]


class TestCurriculum:
    def test_branches_are_the_prompts_of_play(self, vlm: VLM, scenes: Scenes) -> None:
        """Ids and positions of every prompt in a game row, against what the model gets at play."""
        own = picture(scenes.images[0])
        checked = set()
        for seed in range(12):
            row = table_row(Random(seed), scenes.described[0], scenes.described[1])
            text = vlm.processor.tokenizer.decode([i for i, b in zip(row.ids, row.branch, strict=True) if b == 0][26:])
            seats, clues = int(text[0]), _heard(text)
            for number in range(1, max(row.branch) + 1):
                ids, places = branch(row, number)
                cut = ids.index(IDS["<|assistant|>"]) + 1
                words = [VOCABULARY[i] for i in ids[26:cut]]
                messages = _ask(words, own, seats, clues)
                prompt = vlm.encode(messages)
                assert prompt.ids == tuple(ids[:cut])
                batch = collate([row])
                mine = [i for i, b in enumerate(row.branch) if b == number]
                expected = vlm.positions(prompt, len(ids) - cut)
                assert torch.equal(expected[:, -len(mine) :], batch.positions[:, 0, mine])
                assert places == list(range(len(ids)))
                checked.add(" ".join(w for w in words[-7:] if w in ("clue", "vote", "judge", "spy")))
        assert {"clue", "vote", "judge vote", "spy clue"} <= checked

    @pytest.mark.parametrize("make", [table_row, question_row])
    def test_a_packed_row_gives_what_its_prompts_give_alone(
        self, vlm: VLM, scenes: Scenes, make: Callable[..., Row], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("vision_zero.models.nano.training.has_bfloat16", lambda: False)
        row, other = (make(Random(seed), scenes.described[0], scenes.described[1]) for seed in (1, 2))
        images = build_processor().image_processor
        with torch.no_grad():
            features = see(vlm.model, images, scenes.images[[0, 0]])
            packed = read(vlm.model, collate([row, other]), features)[0]
            for number in range(1, max(row.branch) + 1):
                ids, _ = branch(row, number)
                own = [i for i, b in enumerate(row.branch) if b == number]
                alone = _alone(vlm, ids, picture(scenes.images[0]))
                torch.testing.assert_close(packed[own], alone[-len(own) :], atol=1e-4, rtol=1e-4)

    def test_answers_are_true(self, scenes: Scenes) -> None:
        rng, counts = Random(0), [0, 0]
        for _ in range(300):
            text, truth = statement(rng, scenes.described[2], scenes.described[3])
            assert is_true(text.replace("?", "."), {"objects": scenes.described[2]}) is truth
            counts[truth] += 1
        assert min(counts) > 100

    def test_verdicts_and_clue_targets_are_true_of_the_own_picture(self, scenes: Scenes) -> None:
        facts = {"objects": scenes.described[0]}
        for seed in range(10):
            row = table_row(Random(seed), scenes.described[0], scenes.described[1])
            for index, truth in row.verdicts:
                ids = branch(row, row.branch[index])[0] if row.branch[index] else row.ids[: index + 1]
                said = [VOCABULARY[i] for i in ids[: ids.index(IDS["?"]) if row.branch[index] else None]]
                start = max(i for i, w in enumerate(said) if w == "a")
                assert is_true(" ".join(said[start:]), facts) is truth


def _heard(text: str) -> list[PublicClue]:
    words = text.split()
    starts = [i - 1 for i, w in enumerate(words) if w == ":"]
    said = [" ".join(words[a + 2 : b]) for a, b in zip(starts, [*starts[1:], None], strict=True)]
    seats = int(words[0])
    return [PublicClue(i % seats, i // seats + 1, "" if s == "( no clue )" else s) for i, s in enumerate(said)]


def _ask(words: list[str], own: Picture, seats: int, clues: list[PublicClue]) -> tuple[Message, ...]:
    """The messages of play for a prompt whose words these are."""
    if "players" not in words:
        return (Message("user", (PicturePart(own), TextPart(" ".join(words[:-1])))),)
    heard = tuple(clues[: words.count(":")])
    if "judge" in words:
        return vote_messages(View(None, None, seats, own, heard), GAME)
    you = words.index("you")
    view = View(int(words[you + 1]) - 1, Role(words[you + 2]), seats, own, heard)
    return vote_messages(view, GAME) if "vote" in words else clue_messages(view, int(words[-3]), GAME)


def _alone(vlm: VLM, ids: list[int], own: Picture) -> torch.Tensor:
    prompt = vlm.encode((Message("user", (PicturePart(own),)),))
    positions = vlm.positions(prompt, len(ids) - len(prompt.ids))
    with vlm.evaluating():
        return vlm.forward_hidden(torch.tensor([ids]), None, positions[:, None], [own])[0]


class TestSight:
    def test_one_picture_can_be_learned_by_heart(self, scenes: Scenes) -> None:
        stage = Sight(build_model(0), scenes, 4, 0)
        parameters = [p for m in stage.modules for p in m.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=3e-3)
        losses = []
        for step in range(25):
            loss, _ = stage.loss(step % 2, slice(0, 4))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.6 * losses[0]

    def test_handing_over_makes_words_point_at_what_they_mean(self, scenes: Scenes) -> None:
        model = build_model(0)
        stage = Sight(model, scenes, 4, 0)
        torch.nn.init.normal_(stage.reader.weight, generator=torch.Generator().manual_seed(0))
        images = build_processor().image_processor
        with torch.no_grad():
            hand_over(model, stage.reader, see(model, images, scenes.images))
            assert see(model, images, scenes.images).norm(dim=-1).mean().item() == pytest.approx(1, abs=0.01)
        word = model.get_input_embeddings().weight[IDS["small"]]
        small, large = stage.reader.weight[:2]
        assert torch.cosine_similarity(word, small - large, dim=0).item() == pytest.approx(1, abs=1e-4)


class TestReport:
    def test_an_interval_holds_its_share(self) -> None:
        s = share([1.0] * 30 + [0.0] * 10)
        assert s.low < 0.75 == s.share < s.high
        assert s.low == pytest.approx(0.598, abs=2e-3)  # Wilson, 30 of 40

    def test_the_perfect_reader_accuses_who_said_most_that_is_false(self) -> None:
        clues = [PublicClue(i, 1, t) for i, t in enumerate(["a red cube .", "a cube .", "a green cube .", ""])]
        assert perfect_vote(clues, 0, TestTeacher.SCENE) == {2: 0.5, 3: 0.5}
        assert perfect_vote(clues[:2], 2, TestTeacher.SCENE) == dict.fromkeys((0, 1, 3), pytest.approx(1 / 3))


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process only."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class TestMake:
    @pytest.mark.usefixtures("alone")
    def test_a_killed_stage_goes_on_to_the_very_same_weights(
        self, scenes: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(training, "_SAVE_SECONDS", 0.0)
        schedule = Schedule(steps=4, batch=4, learning_rate=1e-3, warmup=2)

        class Killed(Sight):
            def loss(self, step: int, share: slice) -> tuple[torch.Tensor, dict[str, float]]:
                if step == 2:
                    raise KeyboardInterrupt
                return super().loss(step, share)

        def run(kind: type[Sight], name: str) -> list[torch.Tensor]:
            stage = kind(build_model(0), scenes, schedule.batch, 0)
            training.train(stage, schedule, tmp_path / name, lambda text: None)
            return [p for m in stage.modules for p in m.parameters()]

        whole = run(Sight, "whole.pt")
        with pytest.raises(KeyboardInterrupt):
            run(Killed, "broken.pt")
        assert torch.load(tmp_path / "broken.pt")["step"] == 2
        resumed = run(Sight, "broken.pt")
        assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))

    @pytest.mark.slow
    def test_from_nothing_to_a_folder_that_plays(self, tmp_path: Path) -> None:
        """All stages in two processes, on next to nothing."""
        plan = warm_start.Plan(
            pairs=2, sight=Schedule(2, 4, 1e-3), speech=Schedule(2, 4, 1e-3), games=2, pictures=4, shard=2
        )
        warm_start.make(tmp_path, 5, 2, plan)
        assert not (tmp_path / "unfinished").exists()
        assert "votes against the spy, greedy" in (tmp_path / "report.md").read_text(encoding="utf-8")
        assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["seed"] == 5
        made = load(ModelConfig(path=str(tmp_path)), "cpu").model
        untrained = build_model(5)
        changed = [n for n, p in made.named_parameters() if not torch.equal(p, untrained.get_parameter(n))]
        assert any("visual" in n for n in changed)
        assert any("language_model.layers" in n for n in changed)

    def test_unfinished_work_of_other_arguments_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "unfinished").mkdir()
        (tmp_path / "unfinished" / "arguments.txt").write_text("seed=1", encoding="utf-8")
        with pytest.raises(UserError, match="other arguments"):
            warm_start.make(tmp_path)

    def test_a_finished_model_is_not_overwritten(self, vlm: VLM) -> None:
        with pytest.raises(UserError, match="already holds a model"):
            warm_start.make(Path(vlm.config.path))


class TestShippedCheckpoint:
    """What `make` made of its default arguments."""

    def test_it_is_small_and_its_report_meets_the_aims(self) -> None:
        folder = Path(warm_start.__file__).parent / "checkpoint"
        assert sum(f.stat().st_size for f in folder.iterdir()) <= 16e6
        shares = {n: s["share"] for n, s in json.loads((folder / "report.json").read_text("utf-8"))["shares"].items()}
        assert shares["civilians' clues true of their own picture"] >= 0.9
        assert shares["yes/no"] >= 0.92
        assert 0.35 <= shares["votes against the spy, sampled"] <= 0.5
        assert shares["votes against the spy, perfect reader"] >= 0.6

    def test_it_does_what_its_report_says(self) -> None:
        """Measured anew on other pictures, with room for chance."""
        vlm = load(ModelConfig(path="nano", train="language"), "cpu")
        fresh = make_scenes(77, "held_out", 0, 16)
        hits = {name: sum(h) / len(h) for name, h in measure(vlm, fresh, 77, 16, 32).items()}
        assert hits["civilians' clues true of their own picture"] > 0.8
        assert hits["yes/no"] > 0.85
        assert hits["clues in the language"] > 0.95
        assert hits["reads shape"] > 0.8
