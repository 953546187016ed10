"""Arenas of scripted players on real deals: stopped, gone on with, enlarged; and who can be invited."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vision_zero.cli import app
from vision_zero.config import ModelConfig, RunConfig, load_config
from vision_zero.errors import UserError
from vision_zero.evaluate.arena import ArenaResult, arena_deals, pairings_of, play_arena
from vision_zero.evaluate.arena_report import table, write_arena
from vision_zero.evaluate.entrants import find_entrant
from vision_zero.evaluate.weights import find_weights
from vision_zero.runs import checkpoint
from vision_zero.runs.store import RunStore
from vision_zero.types import Role

RECIPE = Path(__file__).parents[2] / "recipes" / "nano.yaml"
SETTINGS = ["pairs.count=40", "game.rounds=1"]
PLAYERS = ("perfect", "random")


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return load_config(RECIPE, SETTINGS)


def hold(config: RunConfig, out: Path, games: int = 8, names: tuple[str, ...] = PLAYERS, **more: object) -> ArenaResult:
    entrants = [find_entrant(name, config) for name in names]
    return play_arena(config, entrants, games, out, **({"say": lambda line: None} | more))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[ArenaResult, Path]:
    out = tmp_path_factory.mktemp("arena") / "whole"
    return hold(config, out), out


def test_all_meet_on_the_same_deals_with_balanced_seats(whole: tuple[ArenaResult, Path]) -> None:
    result, out = whole
    assert (result.games, result.deals, len(result.matrix)) == (16, 4, 2)
    by_step = [list(RunStore.open(out).read_episodes(step)) for step in range(4)]
    assert len({tuple((e.pair, e.seed) for e in games) for games in by_step}) == 1
    for step, games in enumerate(by_step):
        cast = {seat.role: seat.player for game in games for seat in game.seats}
        assert cast == {Role.CIVILIAN: PLAYERS[step // 2], Role.SPY: PLAYERS[step % 2]}
        spies = Counter(seat.index for game in games for seat in game.seats if seat.role is Role.SPY)
        assert spies == {0: 1, 1: 1, 2: 1, 3: 1}
        won = sum(game.outcome.civilians_win for game in games)
        cell = result.matrix[step // 2][step % 2]
        assert cell is not None
        assert cell.point == won / 4


def test_stopped_and_gone_on_with_is_the_same(
    config: RunConfig, whole: tuple[ArenaResult, Path], tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop(line: str) -> None:
        if line.startswith("2/"):
            raise Stop

    with pytest.raises(Stop):
        hold(config, tmp_path / "a", say=stop)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "a" / "episodes").iterdir()}
    assert len(before) == 2
    assert hold(config, tmp_path / "a", batch=3) == whole[0]
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "a" / "episodes").iterdir()}
    assert {name: after[name] for name in before} == before, "games that were there are not played again"
    for name in after:
        assert (tmp_path / "a" / "episodes" / name).read_bytes() == (whole[1] / "episodes" / name).read_bytes()


def test_more_games_begin_with_those_that_were_played(config: RunConfig, tmp_path: Path) -> None:
    hold(config, tmp_path / "a", games=4)
    store = RunStore.open(tmp_path / "a")
    first = list(store.read_episodes(1))
    assert hold(config, tmp_path / "a", games=6).games == 12
    assert list(store.read_episodes(1))[:2] == first
    assert hold(config, tmp_path / "a", games=4).games == 8


def test_another_arena_is_never_mixed_in(config: RunConfig, whole: tuple[ArenaResult, Path]) -> None:
    with pytest.raises(UserError, match="other players"):
        hold(config, whole[1], names=("perfect", "honest"))
    with pytest.raises(UserError, match="other settings"):
        hold(load_config(RECIPE, [*SETTINGS, "seed=1"]), whole[1])


def test_the_papers_measure_is_only_against_the_start() -> None:
    assert pairings_of(3, against=1) == [(0, 1), (1, 0), (2, 1), (1, 2)]
    assert len(pairings_of(3)) == 9


def test_seats_stay_balanced_if_spies_may_not_speak_first(config: RunConfig) -> None:
    late = config.model_copy(update={"game": config.game.model_copy(update={"spy_may_speak_first": False})})
    assert [d.spies for d in arena_deals(late, 4)] == [(1,), (2,), (3,), (1,)]


def test_results_are_written(whole: tuple[ArenaResult, Path]) -> None:
    result, out = whole
    write_arena(result, out)
    tree = json.loads((out / "result.json").read_text())
    assert tree["matrix"][0][0]["trials"] == 4
    assert tree["comparisons"][0]["games_needed"] == result.comparisons[0].games_needed
    assert "| civilians \\ spy |" in (out / "table.md").read_text()
    assert (out / "arena.png").read_bytes().startswith(b"\x89PNG")
    assert "perfect - random" in table(result)


def test_the_command(whole: tuple[ArenaResult, Path]) -> None:
    arguments = ["arena", *PLAYERS, "--recipe", str(RECIPE), "--games", "8", "--out", str(whole[1])]
    done = CliRunner().invoke(app, [*arguments, *(a for s in SETTINGS for a in ("--set", s))])
    assert done.exit_code == 0, done.output
    assert "16 games on 4 deals" in done.stdout


@pytest.mark.parametrize(
    ("games", "names", "word"),
    [(5, PLAYERS, "even number"), (8, ("perfect",), "two players"), (8, ("a=perfect", "a=vague"), "LABEL=PLAYER")],
)
def test_arenas_that_cannot_be_held(
    config: RunConfig, tmp_path: Path, games: int, names: tuple[str, ...], word: str
) -> None:
    with pytest.raises(UserError, match=word):
        hold(config, tmp_path / "a", games, names)


class File:
    """What a checkpoint saves here is one file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.nbytes = len(data)

    def save(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(self.data)
        (folder / "config.json").write_text("{}")

    def restore(self, folder: Path) -> None:
        raise NotImplementedError


def test_models_are_found_by_run_step_and_folder(config: RunConfig, tmp_path: Path) -> None:
    store = RunStore.create(tmp_path, config, tmp_path / "run")
    with pytest.raises(UserError, match="no checkpoint yet"):
        find_weights(str(store.path))
    saved = [checkpoint.save(store.checkpoints, step, File(b"%d" % step), {}) for step in (3, 7)]
    newest, third = find_weights(str(store.path)), find_weights(f"{store.path}@3")
    assert (newest.step, third.step) == (7, 3)
    assert newest.version != third.version
    assert newest.model == config.model.model_copy(update={"path": str(saved[1].path / "model")})
    for text in (saved[0].path, saved[0].path / "model"):
        assert find_weights(str(text), ModelConfig(dtype="bfloat16")) == third
    with pytest.raises(UserError, match="no checkpoint of step 5: there are 3, 7"):
        find_weights(f"{store.path}@5")
    (saved[1].path / "model" / "model.safetensors").write_bytes(b"altered")
    with pytest.raises(UserError, match="altered"):
        find_weights(f"{store.path}@7")


def test_a_folder_is_known_by_its_weights(tmp_path: Path) -> None:
    for name, data in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        File(data).save(tmp_path / name)
    a, b, c = (find_weights(str(tmp_path / name)).version.partition(":")[2] for name in "abc")
    assert a == b != c
    (tmp_path / "c" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no weights"):
        find_weights(str(tmp_path / "c"))
