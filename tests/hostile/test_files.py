"""Hostile files over the real command line: one clear error and code 2, before work starts; nothing is ever run.

The long form (hundreds of spoiled run directories) is in `make soak`.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.hostile.files import NANO, agree, commands, fuzz_files, make_run, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("hostile") / "run")


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def refused(*arguments: object) -> str:
    """What the command said, in one message with code 2."""
    ended = run(*arguments)
    assert ended.trouble is None
    assert ended.code == 2, ended
    assert ended.said.count("error:") == 1
    return ended.said


RECIPES: dict[str, tuple[str | bytes, str]] = {
    "cut short": ("name: a\ngame: {rounds: 2", "cannot read recipe"),
    "not a mapping": ("- 1\n- 2\n", "is not a YAML mapping"),
    "empty": ("", "is not a YAML mapping"),
    "not text": (b"\xff\xfe\x00\x01", "cannot read recipe"),
    "no date": ("name: 2020-99-99\n", "cannot read recipe"),
    "bottomless": ("[" * 20_000, "cannot read recipe"),
    "runs code": ("name: !!python/object/apply:os.system ['true']\n", "cannot read recipe"),
    "holds itself": ("name: a\ngame: &a {rounds: *a}\n", "game.rounds"),
    "unknown key": ("stpes: 3\n", "did you mean 'steps'"),
    "unknown key below": ("credit: {stages: {pateince: 3}}\n", "did you mean 'patience'"),
    "wrong type": ("steps: many\n", "steps"),
    "wrong type below": ("game: 3\n", "game"),
    "a list for a number": ("seed: [1]\n", "seed"),
    "a key that is no word": ("1: 2\n", "1"),
    "out of range": ("games_per_step: -3\n", "games_per_step"),
    "not a number": ("update: {learning_rate: .nan}\n", "learning_rate"),
    "endless": ("update: {learning_rate: .inf}\n", "learning_rate"),
    "huge": ("steps: " + "9" * 5000 + "\n", "cannot read recipe"),
    "contradiction": ("game: {spies: 3, civilians: 2}\n", "lower game.spies"),
    "no such choice": ("game: {layout: sideways}\n", "layout"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(name: str, tmp_path: Path) -> None:
    content, word = RECIPES[name]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes(content if isinstance(content, bytes) else content.encode())
    out = tmp_path / "out"
    assert word in refused("config", recipe)
    assert word in refused("train", recipe, "--out", out)
    assert not out.exists(), "refused before anything was made"


def test_every_command_refuses_a_bad_recipe(tmp_path: Path) -> None:
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe.write_text("credit: {betta: 1}")
    for command in (
        ("plan", recipe),
        ("play", recipe),
        ("arena", "honest", "vague", "--recipe", recipe, "--out", out),
        ("eval", "nano", "--base", "nano", "--recipe", recipe, "--out", out),
    ):
        assert "did you mean 'beta'" in refused(*command)
    assert not out.exists()


# Run directories


def rewrite(file: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Change the first line, or the whole, of a JSON file."""

    def spoil(run_dir: Path) -> None:
        path = run_dir / file
        first, _, rest = path.read_text().partition("\n") if path.suffix == ".jsonl" else (path.read_text(), "", "")
        tree = json.loads(first)
        change(tree)
        path.write_text(json.dumps(tree) + "\n" + rest)

    return spoil


def write(file: str, data: bytes) -> Callable[[Path], None]:
    def spoil(run_dir: Path) -> None:
        (run_dir / file).write_bytes(data)

    return spoil


def pipe(file: str) -> Callable[[Path], None]:
    """Reading it would wait for ever."""

    def spoil(run_dir: Path) -> None:
        (run_dir / file).unlink()
        os.mkfifo(run_dir / file)

    return spoil


def link(file: str, to: str) -> Callable[[Path], None]:
    def spoil(run_dir: Path) -> None:
        (run_dir / file).unlink()
        (run_dir / file).symlink_to(to)

    return spoil


def picture(make: Callable[[], bytes]) -> Callable[[Path], None]:
    """Another file in place of the first game's first picture, under a name that agrees with its bytes."""

    def spoil(run_dir: Path) -> None:
        games = run_dir / "episodes" / "step_000001.jsonl"
        old = json.loads(games.read_text().partition("\n")[0])["seats"][0]["picture"]
        data = make()
        new = hashlib.sha256(data).hexdigest()
        (run_dir / "images" / f"{new}.png").write_bytes(data)
        games.write_text(games.read_text().replace(old, new))

    return spoil


def bomb(width: int = 50_000, height: int = 50_000) -> bytes:
    """A PNG of a few bytes that says it is of that size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\x00" * 1000))
        + chunk(b"IEND", b"")
    )


GAMES, FACTS = "episodes/step_000001.jsonl", "metrics.jsonl"
READERS = ("replay", "view", "export")


def in_game(change: Callable[[dict], object]) -> Callable[[Path], None]:
    return rewrite(GAMES, change)


RUNS: dict[str, tuple[Callable[[Path], None], str, tuple[str, ...]]] = {
    "run.json is cut": (write("run.json", b'{"name": "a'), "run.json is damaged", ("view", "resume")),
    "run.json is a list": (write("run.json", b"[1]"), "run.json is not a JSON object", ("view", "resume")),
    "run.json is bottomless": (write("run.json", b"[" * 100_000), "run.json is damaged", ("view", "resume")),
    "run.json leads out": (link("run.json", "/etc/hostname"), "is a link that leads out", ("view", "resume")),
    "settings are gone": (rewrite("run.json", lambda t: t.pop("config")), "does not hold the settings", ("resume",)),
    "recipe leads out": (link("recipe.yaml", "/etc/hostname"), "recipe", ("resume", "eval")),
    "recipe was edited": (write("recipe.yaml", b"seed: 5"), "--allow", ("resume",)),
    "metrics: no step": (rewrite(FACTS, lambda t: t.pop("step")), "line 1 is not the line of a step", ("resume",)),
    "metrics: a list": (rewrite(FACTS, lambda t: t.update(x=[])), "line 1 is not the line of a step", ("resume",)),
    "metrics: a pipe": (pipe(FACTS), "is not a", ("view", "resume")),
    "games: not JSON": (write(GAMES, b"{nonsense}\n"), "line 1 is", READERS),
    "games: a pipe": (pipe(GAMES), "is not a", READERS),
    "games lead out": (link(GAMES, "/etc/hostname"), "is a link that leads out", READERS),
    "a picture's name": (in_game(lambda t: t["seats"][0].update(picture="../../run")), "64 hexa", READERS),
    "a clue is a number": (in_game(lambda t: t["turns"][0]["understood"].update(clue=3)), "clue is '3'", READERS),
    "a seat too many": (in_game(lambda t: t["turns"][0].update(seat=9)), "a seat that is not there", READERS),
    "a role that is none": (in_game(lambda t: t["seats"][0].update(role="king")), "king", READERS),
    "rewards in words": (in_game(lambda t: t.update(rewards="much")), "rewards", READERS),
    "held-out games of another kind": (write("held_out.json", b'{"policy": 2, "rows": 3}'), "held_out.json", ("card",)),
    "a picture of 50,000 x 50,000": (picture(bomb), "pixels", ("replay", "export")),
    "a picture that is none": (picture(lambda: b"\x89PNG\r\n\x1a\nrest"), "is no picture", ("replay", "export")),
}


ENDLESS = (
    "run.json",
    "recipe.yaml",
    "metrics.jsonl",
    "held_out.json",
    "episodes/step_000000.jsonl",
    "checkpoints/step-000002/manifest.json",
    "checkpoints/step-000002/states/rae.json",
    "checkpoints/step-000002/model/config.json",
)


@pytest.mark.parametrize("file", ENDLESS)
@pytest.mark.parametrize("to", ["/dev/zero", "itself"])
def test_a_link_to_what_has_no_end_is_not_read(file: str, to: str, run_dir: Path, tmp_path: Path) -> None:
    (run_dir / file).unlink(missing_ok=True)
    (run_dir / file).symlink_to(Path(file).name if to == "itself" else to)
    with little_memory():
        ended = [run(*command) for command in commands(file, run_dir, tmp_path / "out")]
    assert [e.trouble for e in ended if e.trouble] == []


@contextmanager
def little_memory() -> Iterator[None]:
    """A gigabyte beyond what this process has: what reads without end ends here, and not the machine."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("name", RUNS)
def test_run_directories(name: str, run_dir: Path, tmp_path: Path) -> None:
    spoil, word, commands = RUNS[name]
    spoil(run_dir)
    whole = {
        "replay": ("replay", run_dir),
        "view": ("view", run_dir, "--static", tmp_path / "page"),
        "export": ("export", run_dir, "--games", tmp_path / "games"),
        "card": ("export", run_dir, "--checkpoint", 2, tmp_path / "card"),
        "resume": ("resume", run_dir),
        "eval": ("eval", run_dir, "--out", tmp_path / "exam"),
    }
    for command in commands:
        assert word in refused(*whole[command])


# Pickles


class Boobytrap:
    """Whoever unpickles it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_pickle_of_weights_is_refused_and_not_read(name: str, run_dir: Path, tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    newest = run_dir / "checkpoints" / "step-000002"
    (newest / "model" / "model.safetensors").unlink()
    (newest / "model" / name).write_bytes(pickle.dumps(Boobytrap(marker)))
    manifest = json.loads((newest / "manifest.json").read_text())
    manifest["files"][f"model/{name}"] = manifest["files"].pop("model/model.safetensors")
    (newest / "manifest.json").write_text(json.dumps(manifest))
    agree(newest)
    model = f"model.path={newest / 'model'}"
    for command in (
        ("resume", run_dir),
        ("eval", run_dir, "--out", tmp_path / "exam", "--pairs", 2),
        ("play", NANO, "--set", model, "--seed", 1),
        ("train", NANO, "--set", model, "--out", tmp_path / "new", "--set", "processes=1"),
        ("arena", f"a={run_dir}", "honest", "--recipe", NANO, "--games", 4, "--out", tmp_path / "arena"),
    ):
        said = refused(*command)
        assert "pickle" in said or "cannot load" in said
    assert not marker.exists()
    pickle.loads(pickle.dumps(Boobytrap(marker)))  # noqa: S301
    assert marker.exists(), "the trap works"


@pytest.mark.parametrize("part", ["updater", "rae", "stages", "pairs"])
def test_a_pickle_or_nonsense_in_place_of_a_state_is_refused(part: str, run_dir: Path, tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    newest = run_dir / "checkpoints" / "step-000002"
    for name, data in (
        (f"{part}.safetensors", pickle.dumps(Boobytrap(marker))),
        (f"{part}.json", b'{"optimizer": 3, "steps": "many"}'),
    ):
        (newest / "states" / name).write_bytes(data)
        agree(newest)
        assert "no state that this version wrote" in refused("resume", run_dir)
    assert not marker.exists()


def test_an_adapter_as_a_pickle_is_refused(tmp_path: Path) -> None:
    adapter, marker = tmp_path / "adapter", tmp_path / "it ran"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "nano", "peft_type": "LORA"}))
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Boobytrap(marker)))
    lora = ("--set", "model.lora={rank: 4}", "--seed", 1)
    assert "pickle" in refused("play", NANO, "--set", f"model.path={adapter}", *lora)
    (adapter / "other.safetensors").write_bytes(b"")
    assert "adapter_model.safetensors" in refused("play", NANO, "--set", f"model.path={adapter}", *lora)
    (adapter / "adapter_config.json").write_text("[]")
    assert "names no base model" in refused("play", NANO, "--set", f"model.path={adapter}", *lora)
    assert not marker.exists()


def test_a_models_folder_that_brings_code_is_refused(run_dir: Path, tmp_path: Path) -> None:
    folder, marker = run_dir / "checkpoints" / "step-000002" / "model", tmp_path / "it ran"
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(marker)!r})\nclass Model: pass\nclass Config: pass\n")
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "evil.Config", "AutoModelForImageTextToText": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "evil", "auto_map": auto}))
    for command in (("play", NANO, "--seed", 1), ("plan", NANO), ("train", NANO, "--out", tmp_path / "new")):
        refused(*command, "--set", f"model.path={folder}", *(("--set", "processes=1") if command[0] == "train" else ()))
    assert not marker.exists()


# Pictures


def test_pair_folders(tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    recipe = tmp_path / "recipe.yaml"
    settings = {"processes": 1, "pairs": {"kind": "folder", "path": str(folder)}, "game": {"wording": "compact"}}
    recipe.write_text(yaml.safe_dump(settings))
    (tmp_path / "secret.png").write_bytes(b"")
    Image.new("RGB", (64, 48), "blue").save(tmp_path / "secret.png")
    for name, spoil in {
        "a bomb": lambda p: p.write_bytes(bomb()),
        "a wide bomb": lambda p: p.write_bytes(bomb(50_000, 2_000)),
        "cut": lambda p: p.write_bytes((tmp_path / "secret.png").read_bytes()[:60]),
        "empty": lambda p: p.write_bytes(b""),
        "a link out": lambda p: p.symlink_to(tmp_path / "secret.png"),
        "a pickle": lambda p: p.write_bytes(pickle.dumps(Boobytrap(tmp_path / "it ran"))),
        "a pipe": os.mkfifo,
        "a device": lambda p: p.symlink_to("/dev/zero"),
    }.items():
        shutil.rmtree(folder)
        folder.mkdir()
        for k in range(20):
            Image.new("RGB", (64, 48), (k, 0, 0)).save(folder / f"{k}_original.png")
            spoil(folder / f"{k}_modified.png")
        checked = run("pairs", "check", folder)
        assert checked.code == 1, (name, checked)
        assert "Traceback" not in checked.said
        said = refused("train", recipe, "--out", tmp_path / f"out {name}", "--set", "games_per_step=2")
        assert "_modified.png" in said, name
    assert not (tmp_path / "it ran").exists()


def test_spoiled_runs_give_0_or_2_and_never_a_traceback(finished: Path, tmp_path: Path) -> None:
    assert fuzz_files(finished, tmp_path, trials=4, seed=0) == []
