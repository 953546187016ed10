"""The doctor finds what is wrong with an installation, and takes a small model through a real step."""

from __future__ import annotations

import importlib.metadata as metadata
import io
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from rich.console import Console

from vision_zero import doctor


def test_this_installation_is_in_order() -> None:
    wrong = [f for f in doctor.versions() if not f.well]
    assert wrong == []
    assert {"torch", "transformers", "peft"} <= {f.what for f in doctor.versions()}


@pytest.mark.parametrize(
    ("wanted", "found", "mend"),
    [
        ("torch<1", "wants <1", "pip install -U 'torch<1'"),
        ("no-such-package>=2", "not installed", "pip install -U 'no-such-package>=2'"),
    ],
)
def test_a_wrong_version_is_named_with_the_command(wanted: str, found: str, mend: str) -> None:
    finding = doctor._met(Requirement(wanted), "us")
    assert not finding.well
    assert found in finding.found
    assert finding.mend == mend


def test_packages_that_do_not_go_together_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.requires

    def requires(package: str) -> list[str] | None:
        return ["torch==2.0.1"] if package == "torchvision" else real(package)

    monkeypatch.setattr(metadata, "requires", requires)
    (finding,) = [f for f in doctor.versions() if not f.well]
    assert "torchvision wants ==2.0.1" in finding.found


def test_a_small_model_plays_and_learns(tmp_path: Path) -> None:
    assert "2-layer model played and learnt" in doctor.run_trial(tmp_path)
    assert (tmp_path / "run" / "checkpoints" / "step-000001" / "manifest.json").exists()


def test_what_is_bad_makes_the_whole_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "versions", lambda: iter([doctor.Finding("torch", False, "0.1", "pip install torch")]))
    monkeypatch.setattr(doctor, "devices", lambda: iter([doctor.Finding("GPU", True, "none")]))
    monkeypatch.setattr(doctor, "trial", lambda: doctor.Finding("play and update", True, "done"))
    console = Console(file=io.StringIO(), width=160)
    assert doctor.examine(console) is False
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "bad" in text
    assert "pip install torch" in text
