"""What is made ahead is what would be made, fails as it would fail, and leaves nobody behind."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from vision_zero.config import ModelConfig
from vision_zero.errors import UserError
from vision_zero.models.base import VLM, load
from vision_zero.models.files import ALIGNMENT
from vision_zero.models.pictures import PictureReader, Preprocessor
from vision_zero.pairs.folder import FolderSource, is_held_out
from vision_zero.pairs.reading import BadFile
from vision_zero.rollouts.ahead import Ahead, spare_workers
from vision_zero.types import Picture

GOOD, BROKEN, THIN = ("one", "two"), "three", "thin"


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return load(ModelConfig(), "cpu")


def reader_like(vlm: VLM) -> PictureReader:
    """Its own reader, which has read nothing."""
    return PictureReader(vlm.processor, vlm.image_token_id, vlm.family.shape_names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of which one is torn, and one is a picture that can be decoded but that the model's processor refuses."""
    path = tmp_path_factory.mktemp("pairs")
    assert not any(is_held_out(name) for name in (*GOOD, BROKEN, THIN))
    for number, name in enumerate((*GOOD, BROKEN, THIN)):
        for which in ("original", "modified"):
            size = (1, 400) if name == THIN else (96, 64)
            shade = 40 * number + (which == "modified") * 20
            Image.new("RGB", size, (shade, 90, 200)).save(path / f"{name}_{which}.png")
    torn = path / f"{BROKEN}_modified.png"
    torn.write_bytes(torn.read_bytes()[:60])
    return path


@pytest.fixture(scope="module")
def ahead(vlm: VLM, folder: Path) -> Iterator[tuple[Ahead, PictureReader]]:
    """All of the folder, made and read by a worker."""
    reader = reader_like(vlm)
    made = Ahead(FolderSource(folder, "train"), reader, workers=1)
    made.start(range(len(made)))
    made.wait()
    [worker] = worker_ids(made)
    yield made, reader
    made.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def worker_ids(ahead: Ahead) -> list[int]:
    assert ahead._pool is not None
    return list(ahead._pool._processes)


def refuse(*given: object) -> None:
    raise AssertionError("made or read a second time, here")


def test_pairs_and_readings_are_the_same_and_made_once(
    ahead: tuple[Ahead, PictureReader], vlm: VLM, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, reader = ahead
    plain, plainly = FolderSource(folder, "train"), reader_like(vlm)
    assert source.fingerprint == plain.fingerprint
    pairs = {i: plain[i] for i, name in enumerate(plain.names) if name in GOOD}
    assert len(pairs) == 2
    monkeypatch.setattr(FolderSource, "__getitem__", refuse)
    monkeypatch.setattr(reader, "preprocess", refuse)
    for index, pair in pairs.items():
        assert source[index] == pair
        assert pair.modified is not None
        for picture in (pair.original, pair.modified):
            assert reader.expansion(picture) == plainly.expansion(picture)
            here, there = reader.pixels(picture), plainly.pixels(picture)
            assert here.keys() == there.keys()
            assert all(torch.equal(here[k], there[k]) and here[k].dtype == there[k].dtype for k in there)
            # products of tensors that begin elsewhere may round otherwise
            assert all(t.data_ptr() % ALIGNMENT == 0 for t in here.values())


def test_what_is_wrong_with_a_pair_is_said_when_it_is_dealt(ahead: tuple[Ahead, PictureReader], folder: Path) -> None:
    source, plain = ahead[0], FolderSource(folder, "train")
    index = plain.names.index(BROKEN)
    with pytest.raises(BadFile) as without:
        plain[index]
    with pytest.raises(BadFile) as found:
        source[index]
    assert str(found.value) == str(without.value)
    assert found.value.problem == without.value.problem


def test_what_is_wrong_with_a_picture_is_said_when_it_is_read(
    ahead: tuple[Ahead, PictureReader], vlm: VLM, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, reader = ahead
    pair = source[FolderSource(folder, "train").names.index(THIN)]
    with pytest.raises(ValueError, match="aspect ratio") as without:
        reader_like(vlm).pixels(pair.original)
    monkeypatch.setattr(reader, "preprocess", refuse)
    with pytest.raises(ValueError, match="aspect ratio") as found:
        reader.pixels(pair.original)
    assert str(found.value) == str(without.value)


def test_nobody_waits_for_a_worker_and_one_that_is_killed_costs_no_run(
    vlm: VLM, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = FolderSource(folder, "train")
    source = Ahead(plain, reader_like(vlm), workers=1)
    source.start([0, 1])
    # a worker takes seconds to start
    assert source[0] == plain[0]
    [worker] = worker_ids(source)
    os.kill(worker, signal.SIGKILL)
    source.wait()
    with caplog.at_level(logging.WARNING):
        assert source[1] == plain[1]
        source.start([0])
        assert source[0] == plain[0]
    assert ["no longer made ahead" in r.message for r in caplog.records] == [True]


@pytest.mark.parametrize(
    ("cores", "here", "threads", "workers"), [(2, 2, 1, 0), (2, 1, 1, 0), (16, 1, 1, 2), (4, 1, 1, 1), (16, 1, 16, 0)]
)
def test_by_default_workers_have_cores_that_training_leaves(
    cores: int, here: int, threads: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
    assert spare_workers(threads) == workers


def test_a_preprocessor_refuses_what_is_no_picture(vlm: VLM) -> None:
    with pytest.raises(UserError, match="not an image file"):
        Preprocessor(vlm.processor, vlm.image_token_id)(Picture(b"no"))
