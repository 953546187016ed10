from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.runs import resumed
from tests.tiny_models import folder
from vision_zero.errors import UserError
from vision_zero.runs.checkpoint import (
    Checkpoint,
    best_step,
    latest,
    load,
    open_checkpoint,
    prune,
    remove_after,
    save,
)
from vision_zero.runs.states import read_state, write_state


class Weights:
    """A model as far as checkpoints know one."""

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def nbytes(self) -> int:
        return len(self.text)

    def save(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "weights.txt").write_text(self.text)

    def restore(self, folder: Path) -> None:
        self.text = (folder / "weights.txt").read_text()


class Part:
    def __init__(self, state: Any) -> None:
        self.state = state

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any, /) -> None:
        self.state = state


def saved(directory: Path, *steps: int) -> Checkpoint:
    return [save(directory, n, Weights(f"weights {n}"), {"part": {"n": n}}) for n in steps][-1]


def names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir())


def test_the_newest_comes_back(tmp_path: Path) -> None:
    assert latest(tmp_path / "nothing here") is None
    saved(tmp_path, 2, 10, 1_000_000)
    found = latest(tmp_path)
    assert found == Checkpoint(tmp_path / "step-1000000", 1_000_000)
    weights, part = Weights(""), Part(None)
    load(found, weights, {"part": part})
    assert weights.text == "weights 1000000"
    assert part.state == {"n": 1_000_000}
    assert names(found.path) == ["manifest.json", "model", "states"]


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3, 4, 5)
    (tmp_path / ".partial-step-000006").mkdir()
    prune(tmp_path, keep=2, best=2)
    assert names(tmp_path) == ["step-000002", "step-000004", "step-000005"]
    saved(tmp_path, 6)
    prune(tmp_path, keep=2, best=5)
    assert names(tmp_path) == ["step-000005", "step-000006"]
    with pytest.raises(ValueError, match="keep 2 or more"):
        prune(tmp_path, keep=1)


def test_the_best_is_told_by_held_out_votes_else_by_measured_ones(tmp_path: Path) -> None:
    saved(tmp_path, 2, 4, 6)
    votes = [0.1, 0.2, 0.9, 0.5, 0.6, 0.8, 1.0]
    metrics: list[dict[str, Any]] = [{"step": step, "votes/accuracy": vote} for step, vote in enumerate(votes)]
    assert best_step(tmp_path, metrics) == 6, "equally good on average: 0.9 0.5, and 0.6 0.8; the newer"
    metrics[5]["votes/accuracy"] = 0.7
    assert best_step(tmp_path, metrics) == 4
    metrics[1]["held_out/votes_on_start_clues"], metrics[2]["held_out/votes_on_start_clues"] = 0.4, 0.9
    assert best_step(tmp_path, metrics) == 2, "what was measured after step 2 is of weights that were never saved"
    assert best_step(tmp_path, []) is None
    assert best_step(tmp_path / "nothing", metrics) is None


def test_a_step_saved_again_replaces_the_first(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    save(tmp_path, 2, Weights("again"), {})
    found = latest(tmp_path)
    assert found is not None
    assert (found.path / "model" / "weights.txt").read_text() == "again"
    assert names(tmp_path) == ["step-000001", "step-000002"]


def damage_content(folder: Path) -> None:
    (folder / "model" / "weights.txt").write_text("weights 7")  # of the same length


def damage_length(folder: Path) -> None:
    state = folder / "states" / "part.safetensors"
    state.write_bytes(state.read_bytes()[:-1])


def damage_presence(folder: Path) -> None:
    (folder / "states" / "part.json").unlink()


def damage_manifest(folder: Path) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text()[:-10])


def damage_names(files: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        manifest = folder / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"files": files}))

    return damage


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (damage_content, "model/weights.txt was altered"),
        (damage_length, "states/part.safetensors was altered"),
        (damage_presence, "states/part.json is missing"),
        (damage_manifest, "manifest.json cannot be read"),
        (damage_names({}), "names no files with their hashes"),
        (damage_names([]), "names no files with their hashes"),
        (damage_names({"model/weights.txt": 7}), "names no files with their hashes"),
    ],
)
def test_a_damaged_one_is_passed_over_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Any, word: str
) -> None:
    saved(tmp_path, 1, 2)
    damage(tmp_path / "step-000002")
    with caplog.at_level(logging.WARNING):
        found = latest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert word in caplog.text
    with pytest.raises(UserError, match="not a whole checkpoint"):
        open_checkpoint(tmp_path / "step-000002")


def test_a_run_without_any_whole_one_is_not_begun_anew_unasked(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    for step in (1, 2):
        damage_content(tmp_path / f"step-00000{step}")
    with pytest.raises(UserError, match=r"none of the 2 checkpoints in .* is whole: restore one, or remove them all"):
        latest(tmp_path)


def test_a_checkpoint_of_another_version_is_not_taken_for_damaged(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    manifest = tmp_path / "step-000002" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(UserError, match="use the version it is from"):
        latest(tmp_path)


def test_damaged_ones_go_when_the_run_goes_on_before_them(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3)
    remove_after(tmp_path, 1)
    assert names(tmp_path) == ["step-000001"]


def test_a_process_killed_while_it_saves_leaves_the_one_before(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    child = os.fork()
    if child == 0:

        class Killed(Weights):
            def save(self, folder: Path) -> None:
                super().save(folder)
                os.kill(os.getpid(), signal.SIGKILL)

        save(tmp_path, 2, Killed("half"), {})
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert names(tmp_path) == [".partial-step-000002", "step-000001"]
    found = latest(tmp_path)
    assert found is not None
    assert found.step == 1
    saved(tmp_path, 2)
    assert names(tmp_path) == ["step-000001", "step-000002"]


def test_a_part_without_state_is_refused_before_anything_changes(tmp_path: Path) -> None:
    found = saved(tmp_path, 1)
    weights = Weights("as it was")
    with pytest.raises(UserError, match="no state of other"):
        load(found, weights, {"part": Part(None), "other": Part(None)})
    assert weights.text == "as it was"


def test_a_disk_that_refuses_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*step-000001.*Free space"):
        saved(tmp_path / "file", 1)


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.lists(st.floats(width=32, allow_nan=False), max_size=3).map(torch.tensor),
)
keys = st.one_of(st.text(max_size=3), st.integers(), st.sampled_from(["$tensor", "$items"]))
trees = st.recursive(
    leaves,
    lambda t: st.one_of(
        st.lists(t, max_size=3), st.lists(t, max_size=3).map(tuple), st.dictionaries(keys, t, max_size=3)
    ),
    max_leaves=12,
)


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


@given(trees)
@settings(max_examples=60, deadline=None)
def test_any_state_comes_back_equal(tmp_path_factory: pytest.TempPathFactory, state: Any) -> None:
    folder = tmp_path_factory.mktemp("state")
    write_state(folder, "x", state)
    assert equal(state, read_state(folder, "x"))


def test_dtypes_views_and_numbers_without_a_form_in_json(tmp_path: Path) -> None:
    base = torch.arange(6, dtype=torch.bfloat16)
    state = {"views": [base, base[::2], base.view(2, 3).T], "scalar": torch.tensor(3), "inf": (float("inf"), -0.0)}
    write_state(tmp_path, "x", state | {"nan": float("nan")})
    got = read_state(tmp_path, "x")
    assert got.pop("nan") != 0
    assert equal(state, got)


def test_a_leaf_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state x\.a\.1 is a set"):
        write_state(tmp_path, "x", {"a": [1, {2}]})


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    """2 steps here = 1 step here, save, load in a new process, 1 step there: full, LoRA with dropout, bfloat16."""
    model = folder("qwen2_5_vl")
    through = {}
    for kind in resumed.KINDS:
        vlm, updater = resumed.begin(model, kind)
        resumed.step(vlm, updater)
        found = save(tmp_path / kind, updater.steps, vlm, {"updater": updater.state_dict()})
        at_save = {n: w.clone() for n, w in vlm.network.state_dict().items()}
        resumed.step(vlm, updater)
        through[kind] = resumed.weights(vlm)
        moved = [n for n, w in vlm.network.state_dict().items() if not torch.equal(w, at_save[n])]
        assert moved

        loaded = AutoModelForImageTextToText.from_pretrained(found.path / "model").state_dict()
        assert loaded.keys() == at_save.keys()
        assert [n for n, w in loaded.items() if not torch.equal(w, at_save[n])] == []
        AutoProcessor.from_pretrained(found.path / "model")

    script = Path(resumed.__file__)
    root = script.parents[2]
    done = subprocess.run(
        [sys.executable, str(script), str(model), str(tmp_path), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)])},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    for kind, expected in through.items():
        got = load_file(tmp_path / f"{kind}.safetensors")
        assert [n for n, w in expected.items() if not torch.equal(w, got[n])] == []
