"""A folder of photos as a set of pairs, edited here or by a model behind a real HTTP server."""

from __future__ import annotations

import base64
import email
import email.policy
import io
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from tests.local_server import Reply, Request, serving
from tests.pairs.photo_files import PHOTOS
from vision_zero.config import PhotoPairs
from vision_zero.config_pairs import DiffusersEditor, EndpointEditor
from vision_zero.errors import UserError
from vision_zero.pairs import open_pairs
from vision_zero.pairs.photos.editors import open_editor
from vision_zero.pairs.photos.source import PhotosSource
from vision_zero.pairs.reading import BadFile, decode, to_png
from vision_zero.types import ImagePair


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real photos, one below in a folder; one whose extension is wrong, and files that are no photos."""
    folder = tmp_path_factory.mktemp("album")
    (folder / "inner").mkdir()
    for name in ("motorcycle_left.png", "coins.png", "astronaut.png", "chelsea.png"):
        shutil.copy(PHOTOS[name], folder / name)
    shutil.copy(PHOTOS["china.jpg"], folder / "inner" / "china.png")
    (folder / "broken.jpg").write_bytes(PHOTOS["flower.jpg"].read_bytes()[:9000])
    (folder / "notes.txt").write_text("not a photo")
    return folder


COINS_HEIGHT = 126
"""Of `coins.png` scaled to 160 pixels."""


def config(folder: Path, **settings: object) -> PhotoPairs:
    return PhotoPairs.model_validate({"kind": "photos", "path": folder, "side": 480, "licence": "mixed", **settings})


def everything(source: PhotosSource) -> list[ImagePair]:
    return [source[i] for i in range(len(source))]


def photo_of(pair: ImagePair) -> str:
    return pair.id.split("-")[0]


def test_good_photos_become_pairs_and_others_are_named(album: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        source = open_pairs(config(album), 0, "train")
    assert isinstance(source, PhotosSource)
    pairs = everything(source)
    assert {photo_of(p) for p in pairs} == {"motorcycle", "coins", "astronaut"}
    for pair in pairs:
        assert pair.modified is not None
        before, after = (np.asarray(decode(p.data, pair.id)).astype(int) for p in (pair.original, pair.modified))
        assert before.shape == after.shape
        assert max(before.shape) <= 480
        assert 0.008 <= (np.abs(after - before).max(-1) > 10).mean() <= 0.15
        assert (pair.source, pair.licence) == (f"photos/{album.name}", "mixed")
        assert len(pair.changes) == 1
    named = {Path(p.file).name: p.reason for p in source.problems}
    assert "damaged" in named["broken.jpg"]
    assert named["chelsea.png"].startswith("has no good edit: ")
    assert all(str(album / name) in caplog.text for name in ("broken.jpg", "chelsea.png"))


def test_a_seed_decides_everything(album: Path) -> None:
    first, again, other = (PhotosSource(config(album), seed, "train") for seed in (3, 3, 4))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert everything(first) == everything(again)
    assert [p.modified for p in everything(other)] != [p.modified for p in everything(first)]
    assert [p.original for p in everything(other)] == [p.original for p in everything(first)]


def test_a_set_that_was_sent_to_another_process_makes_the_same_pairs(album: Path) -> None:
    source = PhotosSource(config(album), 0, "train")
    there = ForkingPickler.loads(ForkingPickler.dumps(source))
    assert not there._made
    assert there[0] == source[0]


def test_photos_are_split_by_their_bytes(tmp_path: Path) -> None:
    for i in range(60):
        Image.new("RGB", (40, 40), (i, 0, 0)).save(tmp_path / f"{i}.png")
    singles = config(tmp_path, edits=())
    train, held_out = (PhotosSource(singles, 0, split) for split in ("train", "held_out"))
    names = [{p.id for p in everything(s)} for s in (train, held_out)]
    assert len(names[0]) + len(names[1]) == 60
    assert not names[0] & names[1]
    assert train.fingerprint != held_out.fingerprint
    shutil.copy(tmp_path / "7.png", tmp_path / "seven.png")
    both = [p for split in ("train", "held_out") for p in PhotosSource(singles, 0, split).problems]  # type: ignore[arg-type]
    assert [(Path(p.file).name, p.reason) for p in both] == [("seven.png", "is the same file as 7.png")]


def test_without_edits_photos_are_single_pictures(album: Path) -> None:
    pairs = everything(PhotosSource(config(album, edits=()), 0, "train"))
    assert all(p.modified is None and p.changes == () for p in pairs)
    assert {photo_of(p) for p in pairs} == {"motorcycle", "coins", "astronaut", "chelsea"}
    # whose hash puts it there; its extension is wrong, and it lies a folder below
    (china,) = everything(PhotosSource(config(album, edits=()), 0, "held_out"))
    assert photo_of(china) == "china"


def test_several_pairs_of_a_photo_differ(album: Path) -> None:
    source = PhotosSource(config(album, per_photo=2), 0, "train")
    coins = [p for p in everything(source) if photo_of(p) == "coins"]
    assert len(coins) == 2
    assert len({p.modified.sha for p in coins if p.modified}) == 2
    assert len({p.original.sha for p in coins}) == 1


def test_what_was_made_is_kept_and_a_killed_start_goes_on(album: Path, tmp_path: Path) -> None:
    kept = config(album, cache=tmp_path / "cache")
    made = everything(PhotosSource(kept, 0, "train"))
    assert made == everything(PhotosSource(config(album), 0, "train"))
    entries = sorted((tmp_path / "cache").glob("*.json"))
    before = {f: f.stat().st_mtime_ns for f in entries}
    # as one killed between a picture and its entry leaves it
    entries[0].unlink()
    (tmp_path / "cache" / ".half.partial").write_bytes(b"\x89PN")
    assert everything(PhotosSource(kept, 0, "train")) == made
    assert {f for f in entries if f.stat().st_mtime_ns != before[f]} == {entries[0]}
    twin = next((tmp_path / "cache").glob("*.png"))
    twin.write_bytes(twin.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged"):
        PhotosSource(kept, 0, "train")


def test_photos_in_formats_that_are_not_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "phone.HEIC").write_bytes(b"ftypheic")
    with pytest.raises(
        UserError, match=r"no pictures in a format that is read here \(1 in others, such as phone\.HEIC"
    ):
        PhotosSource(config(tmp_path), 0, "train")
    shutil.copy(PHOTOS["coins.png"], tmp_path / "coins.png")
    source = PhotosSource(config(tmp_path), 0, "train")
    assert [Path(p.file).name for p in source.problems] == ["phone.HEIC"]
    assert [photo_of(p) for p in everything(source)] == ["coins"]


def test_hidden_pictures_and_a_cache_among_the_photos_are_no_photos(tmp_path: Path) -> None:
    # the folder itself may be hidden
    album = tmp_path / ".album"
    for name in ("coins.png", ".trash/coins2.png"):
        (album / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PHOTOS["coins.png"], album / name)
    for _ in range(2):
        source = PhotosSource(config(album, cache=album / "cache"), 0, "train")
        assert [photo_of(p) for p in everything(source)] == ["coins"]
        assert source.problems == ()
    assert list((album / "cache").glob("*.png"))


def test_a_photo_that_changes_under_the_set_is_not_passed_off(tmp_path: Path) -> None:
    for i in range(30):
        Image.new("RGB", (40, 40), (i, 0, 0)).save(tmp_path / f"{i}.png")
    source = PhotosSource(config(tmp_path, edits=()), 0, "train")
    name = source._index[0][0]
    Image.new("RGB", (40, 40), (200, 200, 0)).save(tmp_path / name)
    source._made.clear()
    with pytest.raises(BadFile, match="changed since"):
        source[0]


def test_folders_that_give_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder of photos"):
        PhotosSource(config(tmp_path / "nowhere"), 0, "train")
    with pytest.raises(UserError, match="holds no pictures"):
        PhotosSource(config(tmp_path), 0, "train")
    Image.new("RGB", (40, 40)).save(tmp_path / "flat.png")
    with pytest.raises(UserError, match="none of its 1 pictures gives a pair"):
        [PhotosSource(config(tmp_path), 0, split) for split in ("train", "held_out")]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"area": (0.2, 0.1)}, "the least must be below the most"),
        ({"editor": {"kind": "endpoint", "model": "m"}}, "needs pairs.cache"),
        ({"editor": {"kind": "endpoint", "model": "m"}, "cache": "c", "instructions": ()}, "pairs.instructions"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, settings: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        config(tmp_path, **settings)


# A model behind an endpoint


def repaint(photo: Image.Image) -> Image.Image:
    """What an editing model does: one thing clearly changed, everything else very slightly."""
    array = np.asarray(photo).astype(int)
    array = array + np.random.default_rng(0).integers(-2, 3, array.shape)
    height, width = array.shape[:2]
    array[height // 3 : height // 3 + height // 6, width // 4 : width // 4 + width // 5] = (10, 200, 220)
    return Image.fromarray(np.clip(array, 0, 255).astype(np.uint8))


@dataclass
class Server:
    """What the server does to a picture, and what it was asked."""

    url: str
    edit: Callable[[Image.Image], Image.Image | bytes | int] = repaint
    asked: list[dict[str, bytes]] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Speaks the protocol: a multipart form in, base64 in JSON out."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")

    def answer(request: Request) -> Reply:
        form = email.message_from_bytes(
            f"Content-Type: {request.headers['Content-Type']}\n\n".encode() + request.body, policy=email.policy.HTTP
        )
        fields = {
            str(part.get_param("name", header="content-disposition")): part.get_content() for part in form.iter_parts()
        }  # type: ignore[attr-defined]
        state.asked.append(fields)
        if request.path != "/v1/images/edits" or request.headers["Authorization"] != "Bearer secret":
            return 404, {"error": {"message": "no such place"}}
        edited = state.edit(Image.open(io.BytesIO(fields["image"])))
        if isinstance(edited, int):
            return edited, {"error": {"message": "I will not"}}
        data = edited if isinstance(edited, bytes) else to_png(edited)
        return 200, {"created": 1, "data": [{"b64_json": base64.b64encode(data).decode()}] if data else []}

    with serving(answer) as address:
        state = Server(f"{address}/v1")
        yield state


@pytest.fixture
def two_photos(tmp_path: Path) -> Path:
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("coins.png", "motorcycle_left.png"):
        shutil.copy(PHOTOS[name], folder / name)
    return folder


def by_model(folder: Path, server: Server, **settings: object) -> PhotosSource:
    editor = {"kind": "endpoint", "model": "m", "base_url": server.url, "timeout": 5, "retries": 1, **settings}
    cache = folder.parent / "cache"
    return PhotosSource(config(folder, side=160, editor=editor, cache=cache, instructions=("paint a box",)), 0, "train")


def test_a_model_edits_and_only_its_edit_is_taken(two_photos: Path, server: Server) -> None:
    pairs = everything(by_model(two_photos, server))
    assert [photo_of(p) for p in pairs] == ["coins", "motorcycle"]
    for pair, asked in zip(pairs, server.asked, strict=True):
        assert asked["image"] == pair.original.data
        assert {k: v for k, v in asked.items() if k != "image"} == {
            "prompt": "paint a box",
            "model": "m",
            "n": "1",
            "response_format": "b64_json",
        }
        assert pair.modified is not None
        assert pair.changes[0].after == {"instruction": "paint a box"}
        before, after = (np.asarray(decode(p.data, "")).astype(int) for p in (pair.original, pair.modified))
        height, width = before.shape[:2]
        assert np.abs(after[height // 2, : width // 5] - before[height // 2, : width // 5]).max() == 0
        middle = after[height // 3 + height // 12, width // 4 + width // 10]
        assert np.abs(middle - (10, 200, 220)).max() <= 4
    # a second start asks nothing
    assert everything(by_model(two_photos, server)) == pairs
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda photo: photo, "the model changed nothing"),
        (lambda photo: Image.eval(photo, lambda v: 255 - v), "too large|reaches the border"),
        (lambda photo: photo.resize((90, 160)), "the model answered 90x160"),
        (lambda photo: 400, "refused to edit it: .*I will not"),
        (lambda photo: b"not a picture", "is damaged, or no picture"),
    ],
)
def test_photos_that_a_model_cannot_edit_are_named_and_the_rest_goes_on(
    two_photos: Path, server: Server, edit: Callable[[Image.Image], Image.Image | bytes | int], reason: str
) -> None:
    server.edit = lambda photo: edit(photo) if photo.height == COINS_HEIGHT else repaint(photo)
    source = by_model(two_photos, server)
    assert [photo_of(p) for p in everything(source)] == ["motorcycle"]
    (problem,) = source.problems
    assert "coins.png" in problem.file
    assert re.search(reason, problem.reason)


@pytest.mark.parametrize(
    ("edit", "settings", "reason"),
    [
        (lambda photo: 401, {}, "OPENAI_API_KEY"),
        (lambda photo: 404, {}, "does not know the model 'm'"),
        (lambda photo: 500, {}, "refused the request: .*I will not"),
        (lambda photo: b"", {}, "without picture data"),
        (repaint, {"base_url": "http://127.0.0.1:9/v1"}, "is it running"),
    ],
)
def test_a_server_that_cannot_edit_ends_the_work_with_the_remedy(
    two_photos: Path,
    server: Server,
    edit: Callable[[Image.Image], Image.Image | bytes | int],
    settings: dict[str, object],
    reason: str,
) -> None:
    server.edit = edit
    with pytest.raises(UserError, match=reason) as refused:
        by_model(two_photos, server, **settings)
    assert not isinstance(refused.value, BadFile)


def test_an_endpoint_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        open_editor(EndpointEditor(model="m"))


def test_pipelines_without_their_library_name_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=r"pip install 'vision-zero\[photos\]'"):
        open_editor(DiffusersEditor(kind="diffusers", model="m"))
