"""Pictures in folders and in tar files, whole or cut into splits, without unpacking them."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vision_zero.errors import UserError
from vision_zero.pairs.bar import progress
from vision_zero.pairs.reading import EXTENSIONS, MOST_BYTES, BadFile, read_bytes

_SPLIT = re.compile(r"(.+\.tar)\.split\.(\d+)")


class Joined(io.RawIOBase):
    """Files read one after another as if they were one, as `cat` joins them."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._files = [part.open("rb") for part in parts]
        sizes = [part.stat().st_size for part in parts]
        self._starts = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """Up to the end of one part at a time: whoever wants more asks again."""
        for file, start, end in zip(self._files, self._starts, self._starts[1:], strict=False):
            if start <= self._at < end:
                file.seek(self._at - start)
                count = file.readinto(memoryview(buffer)[: end - self._at])
                self._at += count
                return count
        return 0

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()


class _Member(NamedTuple):
    archive: int
    start: int
    size: int


class PictureStore:
    """All pictures below a folder: files, and members of tar files and of `NAME.tar.split.NNN`, by their names.

    Nothing is unpacked. Tables often name a file by more or fewer folders than the archive does, so that a name is
    looked up by as many of its last parts as both have.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"no folder at {root}")
        self._root = root
        self._archives: list[io.BufferedReader[Joined]] = []
        self._where: dict[str, _Member | None] = {}
        self._by_basename: dict[str, list[str]] = {}
        splits: dict[str, list[Path]] = {}
        for file in sorted(root.rglob("*")):
            if match := _SPLIT.fullmatch(file.name):
                splits.setdefault(str(file.parent / match[1]), []).append(file)
            elif file.suffix == ".tar":
                splits.setdefault(str(file), []).append(file)
            elif file.suffix.lower() in EXTENSIONS:
                self._add(file.relative_to(root).as_posix(), None)
        sizes = [sum(part.stat().st_size for part in parts) for parts in splits.values()]
        with progress("MB of tar files searched") as bar:
            task = bar.add_task("", total=sum(sizes) >> 20)
            for i, (name, parts) in enumerate(splits.items()):
                for at in self._open(name, parts):
                    bar.update(task, completed=(sum(sizes[:i]) + at) >> 20)

    def read(self, name: str) -> bytes:
        """The bytes of the picture that a table calls `name`. Raises `BadFile` if none or several fit."""
        known = self._find(name)
        member = self._where[known]
        if member is None:
            return read_bytes(self._root, known)
        if member.size > MOST_BYTES:
            raise BadFile(known, f"has {member.size} bytes, over the limit of {MOST_BYTES}")
        archive = self._archives[member.archive]
        archive.seek(member.start)
        return archive.read(member.size)

    def close(self) -> None:
        for archive in self._archives:
            archive.close()

    def _add(self, name: str, member: _Member | None) -> None:
        self._where[name] = member
        self._by_basename.setdefault(PurePosixPath(name).name, []).append(name)

    def _open(self, name: str, parts: list[Path]) -> Iterator[int]:
        """Note the members of an archive; yields where each begins, in bytes."""
        numbers = [int(m[2]) for p in parts if (m := _SPLIT.fullmatch(p.name))]
        if numbers and sorted(numbers) != list(range(min(numbers), min(numbers) + len(numbers))):
            raise UserError(f"{name}: parts {sorted(numbers)} leave gaps: fetch the missing ones")
        archive = io.BufferedReader(Joined(parts))
        try:
            with tarfile.open(fileobj=archive, mode="r:") as tar:
                for item in tar:
                    yield item.offset_data
                    # links are left out: what they mean is decided by who unpacks
                    if item.isreg() and PurePosixPath(item.name).suffix.lower() in EXTENSIONS:
                        self._add(item.name, _Member(len(self._archives), item.offset_data, item.size))
        except tarfile.TarError as e:
            raise UserError(f"{name} is not a whole tar file ({e}): fetch all of its parts again") from e
        self._archives.append(archive)

    def _find(self, name: str) -> str:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        candidates = self._by_basename.get(parts[-1], []) if parts else []
        if not candidates:
            raise BadFile(name, f"is not among the pictures in {self._root}")
        shared = [_common(parts, PurePosixPath(c).parts) for c in candidates]
        best = [c for c, s in zip(candidates, shared, strict=True) if s == max(shared)]
        # a name with folders must agree in one of them: many pictures are called original.png
        if len(parts) > 1 and max(shared) == 1 and all("/" in c.removeprefix("./") for c in best):
            raise BadFile(name, f"is not among the pictures in {self._root}")
        if len(best) > 1:
            raise BadFile(name, f"may be any of {len(best)} pictures in {self._root}, such as {best[0]} and {best[1]}")
        return best[0]


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many last parts are equal."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count
