"""What the seats read: exact words for the tiny model, shared trunks, and nothing that a seat may not know."""

from __future__ import annotations

import itertools

import pytest

from vision_zero.config import GameConfig
from vision_zero.games.base import PublicClue, View
from vision_zero.games.prompts import clue_messages, templates, vote_messages
from vision_zero.types import Message, Picture, PicturePart, Role, TextPart

PICTURE = Picture(b"common")
CLUES = (
    PublicClue(0, 1, "a large red cube ."),
    PublicClue(1, 1, ""),
    PublicClue(2, 1, "a small ball ."),
    PublicClue(3, 1, "a cone ."),
    PublicClue(0, 2, "a blue cube ."),
)


def view(seat: int | None, clues: int, thoughts: tuple[str, ...] = (), role: Role | None = Role.CIVILIAN) -> View:
    return View(seat, None if seat is None else role, 4, PICTURE, CLUES[:clues], thoughts)


def texts(messages: tuple[Message, ...]) -> list[str]:
    (message,) = messages
    assert message.role == "user"
    picture, *rest = message.parts
    assert isinstance(picture, PicturePart)
    out = []
    for part in rest:
        assert isinstance(part, TextPart)
        out.append(part.text)
    return out


def test_compact_words_are_exact() -> None:
    config = GameConfig(wording="compact")
    trunk = ["4 players .\n", "1 : a large red cube .\n", "2 : (no clue)\n"]
    assert texts(clue_messages(view(1, 2), 1, config)) == [*trunk, "you 2 civilian . clue 1 ?\n"]
    assert texts(clue_messages(view(2, 2, role=Role.SPY), 2, config)) == [*trunk, "you 3 spy . clue 2 ?\n"]
    assert texts(vote_messages(view(0, 2), config)) == [*trunk, "you 1 civilian . vote ?\n"]
    assert texts(vote_messages(view(None, 2), config)) == [*trunk, "judge . vote ?\n"]
    blank = GameConfig(wording="compact", spy_picture="blank")
    assert clue_messages(view(2, 2, role=Role.SPY), 1, blank) == clue_messages(view(2, 2, role=Role.SPY), 1, config)


@pytest.mark.parametrize("wording", ["full", "compact"])
def test_prompts_of_one_picture_are_branches_of_one_trunk(wording: str) -> None:
    """Public parts come first and only ever grow; what is private to a seat comes after all of them."""
    config = GameConfig.model_validate({"wording": wording})
    prompts = [clue_messages(view(n % 4, n, ("I wonder",) * (n // 4)), 1 + n // 4, config) for n in range(5)]
    prompts += [vote_messages(view(k, 5, ("I wonder", "I doubt 4")), config) for k in (0, 1, None)]
    trunk = [PicturePart(PICTURE), *(TextPart(t) for t in texts(prompts[-1]))]
    start = next(i for i, p in enumerate(trunk) if isinstance(p, TextPart) and CLUES[0].text in p.text)
    for heard, messages in zip([0, 1, 2, 3, 4, 5, 5, 5], prompts, strict=True):
        assert list(messages[0].parts[: start + heard]) == trunk[: start + heard]
        private = [p.text for p in messages[0].parts[start + heard :] if isinstance(p, TextPart)]
        assert not any(c.text in t for c, t in itertools.product(CLUES, private) if c.text)


@pytest.mark.parametrize("spy_picture", ["modified", "blank"])
def test_full_prompts_differ_in_their_private_part_alone(spy_picture: str) -> None:
    """What everybody is told is told in what is shared: every seat reads its private part anew in every turn."""
    config = GameConfig.model_validate({"spy_picture": spy_picture})
    clues = [texts(clue_messages(view(n, 5, (), role), 2, config)) for n, role in ((1, Role.CIVILIAN), (2, Role.SPY))]
    votes = [texts(vote_messages(view(n, 5, ("I wonder",)), config)) for n in (0, 1, None)]
    for prompts, private in ((clues, 2), (votes, 3)):
        beginning = [p[0] for p in itertools.takewhile(lambda p: len(set(p)) == 1, zip(*prompts, strict=False))]
        assert all(len(p) - len(beginning) <= private for p in prompts)
        assert len({p[len(beginning)] for p in prompts}) == len(prompts), "who they are"
        assert len("".join(prompts[0][len(beginning) :])) < 250
    assert clues[0][:8] == votes[0][:8]
    assert r"\boxed{N/A}" in votes[0][8], "how to vote, after the clues"


VARIANTS = list(itertools.product(["clevr", "charts", "photos"], ["modified", "blank"], ["shared", "published"]))


@pytest.mark.parametrize(("subject", "spy_picture", "layout"), VARIANTS)
def test_full_wording(subject: str, spy_picture: str, layout: str) -> None:
    config = GameConfig.model_validate({"subject": subject, "spy_picture": spy_picture, "layout": layout})
    seen = set()
    for role, clues, changes in itertools.product(Role, (0, 5), (0, 1, 2)):
        lines = texts(clue_messages(view(0, clues, ("A first idea.",), role), 2, config, changes))
        assert all(t.endswith("\n") and t.strip() and "$" not in t for t in lines)
        all_text = "".join(lines)
        assert "Players: 4. Spies among them: 1." in all_text
        assert ("You are a spy" in all_text) == (role is Role.SPY)
        assert r"\boxed{" in all_text
        assert ("first to speak" in all_text) == (clues == 0)
        assert ("A first idea." in all_text) == (layout == "shared" or clues > 0)
        assert ("blank" in all_text) == (spy_picture == "blank")
        seen.add(all_text)
    assert len(seen) == (12 if spy_picture == "modified" else 4), "role, history and changes are all told"
    for seat in (2, None):
        all_text = "".join(texts(vote_messages(view(seat, 5), config)))
        assert r"\boxed{4}" in all_text
        assert r"\boxed{N/A}" in all_text
        assert ("You are player 3." in all_text) == (seat == 2)


def test_published_layout_puts_the_private_part_first_and_the_history_last() -> None:
    config = GameConfig(layout="published")
    lines = texts(clue_messages(view(0, 4, ("A first idea.",)), 2, config))
    assert lines[0].startswith("You are player 1.")
    thought = next(i for i, t in enumerate(lines) if "A first idea." in t)
    assert lines[thought + 1] == "Round 1, player 1: a large red cube .\n"
    assert lines[-1] == "Round 1, player 4: a cone .\n"
    assert "player 2: (no clue)" in lines[-3]


def test_templates_are_package_data_with_texts_that_end_lines() -> None:
    words = templates("spy")
    assert set(words) == {"full", "compact"}
    for wording in words.values():
        assert all(wording[part].endswith("\n") for part in ("rules", "clue"))
