"""Reading and cleaning what players say: a table of readings, and properties over arbitrary text."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.hostile.words import VOTES, VoteRow
from vision_zero.games.cleaning import clean
from vision_zero.games.speech import read_clue, read_vote
from vision_zero.types import ABSTAIN, StopReason

CUT = StopReason.LENGTH

SPECIAL_TOKENS = [
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|vision_start|>", "<|image_pad|>", "<|video_pad|>", "<img>"),
    *("<IMG_CONTEXT>", "<image>", "<start_of_image>", "<image_soft_token>", "<start_of_turn>", "<end_of_utterance>"),
    *("<fake_token_around_image>", "<row_1_col_2>", "<global-img>", "[INST]", "[/INST]", "[IMG_BREAK]", "[gMASK]"),
    *("<<SYS>>", "<s>", "</s>", "<bos>", "<pad>", "<unk>", "<think>", "</think>", "<answer>", "<tool_call>"),
    *("<|eot_id|>", "<｜end▁of▁sentence｜>", "◁think▷", "◁/think▷", "＜|im_end|＞", "|ENDOFTEXT|", r"\boxed{x}"),
]


@pytest.mark.parametrize("row", VOTES, ids=lambda row: ascii(row.say)[:40])
def test_votes_are_read_as_the_reference_table_says(row: VoteRow) -> None:
    read = read_vote(row.say, row.boxed, row.choices, row.stop)
    assert read.vote == row.vote, read
    assert (read.problem is None) == (row.vote is not None)


def test_every_failure_has_its_own_reason() -> None:
    end = StopReason.END_OF_TURN
    replies = [
        ("", end), ("", CUT), ("so 3", end), ("so 3", CUT), (r"\boxed{3", end), (r"\boxed{3", CUT), (r"\boxed{}", end),
        (r"\boxed{7}", end), (r"\boxed{red}", end), (r"\boxed{1 or 2}", end),
    ]  # fmt: skip
    reasons = [read_vote(text, True, 4, stop).problem for text, stop in replies]
    assert None not in reasons
    assert len(set(reasons)) == len(reasons)
    assert "7" in str(read_vote(r"\boxed{7}", True, 4).problem)
    reasons = [read_clue(text, True, 99, stop).problem for text, stop in replies[:6]]
    assert None not in reasons
    assert len(set(reasons)) == len(reasons)


def test_a_clue_that_was_cut_off_is_none() -> None:
    assert read_clue("a large red", False, 99, CUT).clue is None


def test_clues() -> None:
    read = read_clue("I doubt 2.\nSo \\boxed{A \\text{red {big}} cube\n<|im_end|>.} done", True, 300)
    assert (read.thought, read.clue, read.problem) == ("I doubt 2. So", "A red big cube .", None)
    assert read_clue("a large red cube .", False, 300).clue == "a large red cube ."
    assert read_clue("<think>well</think>a cube", False, 300).thought == "well"
    assert read_clue(r"\boxed{one two three}", True, 9).clue == "one two"
    assert read_clue(r"\boxed{ ... }", True, 9).problem == "the clue has no words"
    said = read_clue(r"The example was \boxed{A ball.} but mine is \boxed{A cube.}", True, 300)
    assert said.clue == "A cube."
    assert said.thought == "The example was A ball. but mine is"


def test_clean_keeps_what_a_sentence_needs() -> None:
    for text in ("a large red cube .", "3 × 4 = 12, isn't it? (50 %) – “ja”", "größer, 大きい, أكبر, बड़ा", "$4,000"):
        assert clean(text) == unicodedata.normalize("NFKC", text)
    assert clean("[a red cube] is < 3") == "(a red cube) is ‹ 3"
    assert clean(r"\frac{1}{2} \approx 50\%") == "1 2 approx 50%"
    assert clean("a\u202eb\u200bc\x00d\ud800e\ufe0ff\u3164g\ufffch\U000e0041") == "abcdefgh"
    assert clean("a\n\t b\u2028c\u00a0d") == "a b c d"
    assert clean("aaaa bbbb", 4) == clean("aaaa bbbb", 8) == "aaaa"
    assert clean("aaaa", 3) == "aaa"
    assert clean("aa bb cc", 5) == clean("aa bb cc", 7) == "aa bb"


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_no_special_token_is_left(token: str) -> None:
    for text in (token, f"a {token} b", f"a{token}{token}b", token[:3] + token + token[3:], "\u200b".join(token)):
        assert not set("<>[]{}|\\◁▷") & set(clean(text)), clean(text)
    assert clean(f"a {token} cube") in {"a cube", "a x cube", "a ‹ › cube", "a ¦ENDOFTEXT¦ cube"}


FRAGMENTS = [
    *SPECIAL_TOKENS,
    *"<>|[]{}/\\ \n\u200b\u202e\ud800",
    "e",
    "\u0301",
    "\u0338",
    "\u0323",
    "ﷺ",
    "¨",
    "≮",
    "가",
    "ᆨ",
]
SAID = st.one_of(
    st.text(), st.lists(st.sampled_from([*FRAGMENTS, r"\boxed{", "</think>", '{"spy":', "2"])).map("".join)
)


@settings(max_examples=300, deadline=None)
@given(SAID, st.none() | st.integers(1, 40))
@example("e}\u0301", None)
@example("<|im_<|im_end|>end|>", None)
def test_cleaning_is_idempotent_and_leaves_one_safe_line(text: str, most: int | None) -> None:
    cleaned = clean(text, most)
    assert clean(cleaned, most) == cleaned
    assert most is None or len(cleaned) <= most
    assert not set("<>[]{}|\\◁▷") & set(cleaned)
    assert all(c == " " or unicodedata.category(c)[0] not in "CZ" for c in cleaned)
    assert cleaned == " ".join(cleaned.split())
    cleaned.encode("utf-8")


@settings(max_examples=300, deadline=None)
@given(SAID, st.booleans(), st.sampled_from(StopReason), st.integers(2, 12))
def test_reading_never_raises_and_is_either_an_answer_or_a_problem(
    text: str, boxed: bool, stop: StopReason, seats: int
) -> None:
    clue = read_clue(text, boxed, 300, stop)
    assert (clue.clue is None) == (clue.problem is not None)
    assert clue.clue is None or clue.clue == clean(clue.clue, 300)
    assert clue.thought == clean(clue.thought)
    vote = read_vote(text, boxed, seats, stop)
    assert (vote.vote is None) == (vote.problem is not None)
    assert vote.vote in {None, ABSTAIN, *range(seats)}


LONG = [
    "a",
    "{",
    "}",
    "<",
    "[",
    "\\",
    r"\boxed{",
    "\\boxed",
    "</think>",
    "<answer>",
    '{"spy"',
    "1",
    "\u0301",
    "\u0301\u0323",
    " ",
]


@pytest.mark.parametrize("piece", LONG)
def test_a_megabyte_is_read_in_linear_time(piece: str) -> None:
    characters = 1_000_000 if piece == "a" else 200_000
    text = (piece * characters)[:characters]

    def seconds() -> float:
        began = time.process_time()
        read_clue(text, True, 300)
        read_vote(text, True, 4)
        return time.process_time() - began

    # tried again because what other jobs do to the caches counts too; no try of a quadratic reader is as short
    assert any(seconds() < characters * 1e-5 for _ in range(3))
