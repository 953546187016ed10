"""The command line: exit codes, messages for people, and one real run that is stopped, resumed and replayed."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.test_docs import parse
from tests.tiny_models import build
from vision_zero.cli import app
from vision_zero.config import RunConfig, load_config

NANO = Path(__file__).parent.parent / "recipes" / "nano.yaml"
COMMANDS = [
    [],
    ["train"],
    ["resume"],
    ["replay"],
    ["play"],
    ["config"],
    ["arena"],
    ["eval"],
    ["serve"],
    ["export"],
    ["harness"],
    *(["harness", c] for c in ("install", "list")),
    ["nano"],
    ["nano", "make"],
    ["pairs"],
    *(["pairs", c] for c in ("make", "check", "show")),
]


def run(*arguments: object, input: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], input=input)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str]) -> None:
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert "Usage" in out


def test_help_is_instant() -> None:
    code = "from vision_zero.cli import app; import sys\ntry: app(['train', '--help'])\n"
    code += "finally: print({'torch', 'transformers', 'PIL', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.rstrip().endswith("set()"), done.stdout + done.stderr


def test_config_prints_a_recipe_with_overrides(tmp_path: Path) -> None:
    code, out, _ = run("config", NANO, "--set", "credit.beta=0.3", "--set", "game.civilians=4")
    assert code == 0
    tree = yaml.safe_load(out)
    assert (tree["credit"]["beta"], tree["game"]["civilians"]) == (0.3, 4)
    (tmp_path / "printed.yaml").write_text(out)
    assert load_config(tmp_path / "printed.yaml") == RunConfig.model_validate(tree)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["config", "nowhere.yaml"], "cannot read recipe nowhere.yaml"),
        (["config", NANO, "--set", "credit.betta=1"], "did you mean 'beta'"),
        (["train", NANO, "--set", "steps"], "not of the form a.b=c"),
        (["resume", "nowhere"], "nowhere is not a run directory"),
        (["replay", "nowhere"], "nowhere is not a run directory"),
        (["play", NANO, "--seat", "two=human"], "not of the form K=PLAYER"),
        (["play", NANO, "--seat", "9=honest", "--civilians", "honest"], "no seat 9: this game has seats 1 to 4"),
        (["play", NANO, "--civilians", "genius"], "there is no player 'genius': choose one of policy, human"),
        (["play", "src"], "src is not a run directory"),
        (["play", NANO, "--page", "--seat", "2=human"], "chosen in the page"),
        (["play", NANO, "--page", "--invite", "human"], "one person sits at the page"),
        (["play", NANO, "--page", "--invite", "you=honest"], "none may be 'you'"),
        (["play", NANO, "--page", "--invite", "genius"], "there is no player 'genius'"),
        (["play", NANO, "--invite", "honest"], "--invite is for --page"),
    ],
)
def test_what_a_user_can_mend_is_one_message_and_code_2(arguments: list[object], word: str) -> None:
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert word in err
    assert "Traceback" not in err


def test_processes_that_were_launched_together_need_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        code, _, err = run("train", NANO)
        assert code == 2
        assert "give --out" in err
    assert list(tmp_path.iterdir()) == []


def test_scripted_players_play_a_game_that_is_printed_as_it_goes() -> None:
    arguments = ["play", NANO, "--civilians", "perfect", "--spies", "vague", "--seed", "3"]
    code, out, _ = run(*arguments)
    assert code == 0
    order = [out.index(w) for w in ("round 1", "player 1: ", "round 2", "votes\n", "player 1 ", "3 voters", "pair.png")]
    assert order[0] < order[1] < order[2] < order[3] < order[4] < order[5] < order[6]
    again = run(*arguments)[1]
    assert out.partition("pictures:")[0] == again.partition("pictures:")[0]


def test_a_person_on_a_seat_sees_no_role_until_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "a green cube .\n" * 2 + "1\n"
    table = ["play", NANO, "--civilians", "honest", "--spies", "vague", "--seat", "2=human", "--out", tmp_path / "kept"]
    code, out, _ = run(*table, "--seed", "5", input=said)
    assert code == 0
    before, _, after = out.partition("game seed-5")
    assert "You are player 2" in before
    assert "player 1: " in before
    others = before.replace("You are player 2, civilian", "").replace("You are player 2, spy", "")
    assert "spy" not in others.partition("\n")[2]
    assert "civilian" not in others
    assert "player 2: a green cube" in after
    assert "spy" in after
    # kept like any other game, and the next one beside it
    assert "game 000000-0000" in run("replay", tmp_path / "kept")[1]
    assert run(*table, "--seed", "6", input=said)[0] == 0
    assert "player 2: a green cube" in run("replay", tmp_path / "kept", "--step", "1")[1]
    code, _, err = run(*table, "--set", "game.rounds=1", input=said)
    assert code == 2
    assert "holds games with other settings" in err
    # without --out the games of each setting find a place of their own
    monkeypatch.chdir(tmp_path)
    for rounds, kept in ((2, "people-nano"), (1, "people-nano-2"), (2, "people-nano")):
        out = run(*table[:-2], "--set", f"game.rounds={rounds}", input=said)[1]
        assert f"kept in runs/{kept}:" in out


def test_input_that_ends_is_said_clearly(tmp_path: Path) -> None:
    table = ["--civilians", "human", "--spies", "honest", "--out", tmp_path / "kept"]
    code, _, err = run("play", NANO, *table, "--seed", "5", input="")
    assert code == 2
    assert "the input ended" in err


# One real run


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run of a random tiny model, interrupted by Ctrl-C after its first steps."""
    folder = tmp_path_factory.mktemp("cli")
    recipe = {
        "name": "cli",
        "steps": 40,
        "games_per_step": 2,
        "pairs": {"kind": "clevr", "count": 8, "width": 112, "height": 84},
        "game": {"wording": "compact", "rounds": 1, "max_clue_tokens": 4, "max_vote_tokens": 2},
        "model": {"path": str(build("qwen2_5_vl", folder / "tiny"))},
        "save": {"every": 1, "keep": 2, "trackers": []},
        "sight_check_every": 1000,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = [
        sys.executable,
        "-m",
        "vision_zero.cli",
        "train",
        str(folder / "recipe.yaml"),
        "--out",
        str(folder / "run"),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # a shell without job control starts what runs in the background, perhaps these tests, deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + 120
        while not (folder / "run" / "checkpoints" / "step-000002").exists() and process.poll() is None:
            assert time.monotonic() < deadline, "the run does not get on"
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return folder / "run", subprocess.CompletedProcess(command, process.returncode, out, err)


def test_ctrl_c_ends_with_130_and_how_to_go_on(stopped: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    run_dir, done = stopped
    assert done.returncode == 130, done.stderr
    assert f"vision-zero resume {run_dir}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "step 1/40" in done.stdout  # one plain line a step where there is no terminal


def test_a_stopped_run_is_resumed_to_its_end(stopped: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    run_dir, _ = stopped
    code, out, err = run("resume", run_dir, "--set", "steps=4")  # the rest of 40 steps would take a minute
    assert code == 0, err
    assert "steps is 4, it was 40" in out
    [record] = json.loads((run_dir / "run.json").read_text())["changes"]
    assert record["settings"] == {"steps": [40, 4]}
    assert record["steps_done"] >= 2
    assert "step 4/4" in out
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in lines] == list(range(4))
    told = [shlex.split(line.partition("vision-zero ")[2]) for line in out.splitlines() if "   vision-zero " in line]
    assert [words[0] for words in told] == ["view", "replay", "play", "arena", "eval", "export", "resume"]
    for words in told:
        parse(words)  # raises for what the command line would refuse


def test_games_of_a_run_are_told(stopped: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    run_dir, _ = stopped
    code, out, _ = run("replay", run_dir, "--step", 0, "--count", 1)
    assert code == 0
    assert "game 000000-0000: spy on clevr-train" in out
    assert (run_dir / "thumbnails" / "000000-0000-pair.png").exists()
    code, out, _ = run("replay", run_dir, "--step", 0)
    assert out.count("round 1") == 2  # both games of the step
    sentences = {"caught": "the spy is caught", "escaped": r"player \d is accused: spy", "tie": "nobody is accused"}
    ended = {outcome: len(re.findall(sentence, out)) for outcome, sentence in sentences.items()}
    assert sum(ended.values()) == 2
    for outcome, count in ended.items():
        code, out, err = run("replay", run_dir, "--step", 0, "--outcome", outcome)
        assert len(re.findall(sentences[outcome], out)) == count
        assert code == 0 if count else (code == 2 and f"ended as {outcome} (there are: " in err)
    assert run("replay", run_dir, "--step", 77)[0] == 2
