"""What is written for VLMEvalKit and lmms-eval, and how their results are read. The real tools: check_harness.py."""

from __future__ import annotations

import base64
import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoProcessor
from typer.testing import CliRunner

from vision_zero.cli import app
from vision_zero.config import load_config
from vision_zero.errors import UserError
from vision_zero.evaluate.exam import make_probes
from vision_zero.evaluate.harness import benchmarks, environment, lmms_eval, vlmevalkit
from vision_zero.evaluate.harness.environment import Tool
from vision_zero.evaluate.harness.job import Job, Score
from vision_zero.evaluate.harness.probe_file import ProbeFile, probe_file
from vision_zero.evaluate.harness.suite import Order, _row, run_suite
from vision_zero.evaluate.probes import YES_NO
from vision_zero.evaluate.scoreboard import check_models, read_sheets, write_sheet
from vision_zero.evaluate.serving import _limit_pixels, _link
from vision_zero.evaluate.weights import find_weights
from vision_zero.models import files

RECIPE = Path(__file__).parents[2] / "recipes" / "nano.yaml"
CONFIG = load_config(RECIPE, ["pairs.count=40"])
PROBES = make_probes(CONFIG, 4).probes
KIT = Tool("vlmevalkit", Path("kit"), "0", {"MMStar": "ImageMCQDataset", "MathVista_MINI": "MathVista"}, ())
LMMS = Tool("lmms-eval", Path("lmms"), "0", {"mmstar": "task", "blink": "group"}, ())


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("LMUData", str(tmp_path / "data"))
    return tmp_path / "data"


def job(tool: Tool, folder: Path, *names: str, probes: ProbeFile | None = None, **changes: Any) -> Job:
    made = Job(tool, "base", "http://127.0.0.1:9/v1", names, probes, folder, None, None, 4)
    return replace(made, **changes)


def test_our_questions_are_a_table_with_pictures() -> None:
    made = probe_file(PROBES, "compact")
    rows = list(csv.DictReader(made.data.decode().splitlines(keepends=True), delimiter="\t"))
    asked = [p for p in PROBES if p.choices == YES_NO]
    assert [row["question"] for row in rows] == [f"{p.question}\n" for p in asked]
    assert [base64.b64decode(row["image"]) for row in rows] == [p.pictures[0].data for p in asked]
    assert [row["answer"].lower() for row in rows] == [p.answer for p in asked]
    assert [row["pair"] for row in rows] == list(made.pairs)
    assert made.name != probe_file(asked[1:], "compact").name
    with pytest.raises(UserError, match="needs scenes"):
        probe_file([p for p in PROBES if p.choices != YES_NO], "compact")


def test_published_names_become_the_tools_own() -> None:
    assert benchmarks.resolve("mmstar, probes", KIT, None) == ("MMStar", "probes")
    assert benchmarks.resolve("MathVista,MMStar,mmstar", KIT, "gpt-4o-mini") == ("MathVista_MINI", "MMStar")
    assert benchmarks.resolve("CRPE", KIT, None) == ("CRPE_EXIST", "CRPE_RELATION")
    assert benchmarks.resolve("blink,mmstar", LMMS, None) == ("blink", "mmstar")
    assert len(benchmarks.resolve("all", KIT, "judge")) == 20
    with pytest.raises(UserError, match=r"MathVista: .*--judge"):
        benchmarks.resolve("all", KIT, None)
    with pytest.raises(UserError, match=r"knows no benchmark 'MMStart' \(near: MMStar"):
        benchmarks.resolve("MMStart", KIT, None)


def test_the_configuration_of_vlmevalkit(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = probe_file(PROBES, "compact")
    command = vlmevalkit.prepare(job(KIT, tmp_path / "run", "MMStar", made.name, probes=made, max_tokens=12))
    tree = json.loads((tmp_path / "run" / "config.json").read_text())
    assert tree["data"] == {
        "MMStar": {"class": "ImageMCQDataset", "dataset": "MMStar"},
        made.name: {"class": "ImageYORNDataset", "dataset": made.name},
    }
    model = tree["model"]["base"]
    assert (model["temperature"], model["max_tokens"], model["model"]) == (0, 12, "base")
    assert model["api_base"] == "http://127.0.0.1:9/v1/chat/completions"
    assert (data / f"{made.name}.tsv").read_bytes() == made.data
    assert command.arguments[-1] == "exact_matching", "no judge is tried that nobody named"
    assert command.settings["LMUData"] == str(data)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://judge/v1/")
    judged = vlmevalkit.prepare(job(KIT, tmp_path / "run", "MathVista_MINI", judge="j"))
    assert judged.arguments[-2:] == ["--judge", "j"]
    assert judged.settings["OPENAI_API_BASE"] == "http://judge/v1/chat/completions"


REPORT: dict[str, Any] = {
    "benchmark": "MMStar",
    "infer_failed": 0,
    "infer_total": 3,
    "judge_failed": 0,
    "judge_total": 3,
    "primary_metric": "Overall",
    "primary_metric_value": 0.667,
    "skip_reason": None,
    "eval_error": None,
}


SILENT = "RetCode: 0\nAnswer: \nLog: {}\n"
REFUSED = "RetCode: 500\nAnswer: Failed to obtain answer via API.\n"
GONE = "An error occured during try 0:\nConnectionError: refused\n"


def test_what_vlmevalkit_found(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "tool.log").write_text(SILENT)
    asked = job(KIT, tmp_path, "MMStar")
    report = {"MMStar": REPORT, "Mine": REPORT}
    assert vlmevalkit.score(asked, report, "MMStar") == Score("MMStar", "Overall", 0.667, None), "no table of questions"
    table = tmp_path / "base" / "base_MMStar_exact_matching_result.tsv"
    table.write_text('"index"\t"question"\t"hit"\n"0"\t"two\nlines"\t"1"\n"1"\t"a"\t"0"\n"7"\t"b"\t"1.0"\n')
    score = vlmevalkit.score(asked, report, "MMStar")
    assert score.answers == {"0": 1.0, "1": 0.0, "7": 1.0}
    # what VLMEvalKit 0.0.20 wrote of a table of our own
    (tmp_path / "base" / "base_Mine_auxmatch.tsv").write_text('"index"\t"extracted"\t"score"\n"0"\t"Yes"\t"True"\n')
    assert vlmevalkit.score(asked, report, "Mine").answers == {"0": 1.0}
    report["MMStar"] = REPORT | {"infer_failed": 1}
    assert vlmevalkit.score(asked, report, "MMStar").value == 0.667, "to say nothing is an answer"


@pytest.mark.parametrize(
    ("log", "change", "message"),
    [
        (SILENT + REFUSED, {"infer_failed": 2}, "2 requests and 0 judgements of 3 failed"),
        (SILENT + GONE, {"infer_failed": 2}, "2 requests and 0 judgements of 3 failed"),
        ("", {"judge_failed": 3, "eval_error": "no key"}, r"3 judgements of 3 failed \(no key\)"),
        ("", {"primary_metric_value": None, "eval_error": "'answer'"}, r"gave no score \('answer'\)"),
        ("", {"primary_metric_value": None, "skip_reason": "invalid_dataset"}, r"gave no score \(invalid_dataset\)"),
        ("", {}, "it was never run"),
    ],
)
def test_failures_of_vlmevalkit_are_no_wrong_answers(
    tmp_path: Path, log: str, change: dict[str, Any], message: str
) -> None:
    (tmp_path / "tool.log").write_text(log)
    report = {"MMStar": REPORT | change} if change else {}
    with pytest.raises(UserError, match=message):
        vlmevalkit.score(job(KIT, tmp_path, "MMStar", judge="j"), report, "MMStar")


def test_the_configuration_of_lmms_eval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = probe_file(PROBES, "compact")
    lmms_eval.prepare(job(LMMS, tmp_path, "mmstar", made.name, probes=made, max_tokens=12))
    tree = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert tree["tasks"] == f"mmstar,{made.name}"
    assert tree["gen_kwargs"] == "temperature=0,max_new_tokens=12"
    assert "base_url=http://127.0.0.1:9/v1" in tree["model_args"]
    text = (tmp_path / "tasks" / f"{made.name}.yaml").read_text()
    task = yaml.safe_load(text.replace("!function ", ""))
    assert Path(task["dataset_kwargs"]["data_files"]["test"]).read_bytes() == made.data
    module, _, name = task["doc_to_visual"].partition(".")
    space: dict[str, Any] = {}
    exec(compile((tmp_path / "tasks" / f"{module}.py").read_text(), module, "exec"), space)  # noqa: S102
    row = next(csv.DictReader(made.data.decode().splitlines(keepends=True), delimiter="\t"))
    [picture] = space[name](row)
    assert picture.size == (CONFIG.pairs.width, CONFIG.pairs.height)  # type: ignore[union-attr]
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://judge/v1")
    settings = lmms_eval.prepare(job(LMMS, tmp_path, "mmstar", judge="j")).settings
    assert (settings["MODEL_VERSION"], settings["JUDGE_MODEL_NAME"]) == ("j", "j")
    assert settings["OPENAI_API_URL"] == settings["JUDGE_BASE_URL"] == "http://judge/v1"


def left_by_lmms_eval(folder: Path, task: str, row: dict[str, Any], samples: list[dict[str, Any]]) -> None:
    output = folder / "output" / "base"
    output.mkdir(parents=True)
    results = {"results": {task: row}, "group_subtasks": {task: []}}
    (output / "20260101_000000_results.json").write_text(json.dumps(results))
    lines = "".join(json.dumps(s) + "\n" for s in samples)
    (output / f"20260101_000000_samples_{task}.jsonl").write_text(lines)


def sample(number: int, metric: str, value: Any, tokens: int = 2) -> dict[str, Any]:
    counts = [{"input_tokens": 30 * min(1, tokens), "output_tokens": tokens, "reasoning_tokens": 0}]
    return {"doc_id": number, "filtered_resps": "yes", "token_counts": counts, metric: value}


def test_what_lmms_eval_found(tmp_path: Path) -> None:
    row = {"alias": "mmstar", "math,none": 0.5, "average,none": 0.75, "average_stderr,none": 0.1}
    samples = [sample(k, "average", {"question_id": k, "score": k % 2}) for k in range(2)]
    left_by_lmms_eval(tmp_path, "mmstar", row, samples)
    asked = job(LMMS, tmp_path, "mmstar")
    file = lmms_eval.collect(asked)
    assert lmms_eval.score(asked, file, "mmstar") == Score(
        "mmstar", "average", 0.75, {"mmstar/0": 0.0, "mmstar/1": 1.0}
    )
    with pytest.raises(UserError, match="blink: lmms-eval gave no score"):
        lmms_eval.score(asked, file, "blink")
    with pytest.raises(UserError, match="left 0 files"):
        lmms_eval.collect(job(LMMS, tmp_path / "nowhere", "mmstar"))


def test_failed_requests_of_lmms_eval_are_no_wrong_answers(tmp_path: Path) -> None:
    samples = [sample(0, "exact_match", 1.0), sample(1, "exact_match", 0.0, tokens=0)]
    left_by_lmms_eval(tmp_path, "ours", {"exact_match,yes-or-no": 0.5}, samples)
    asked = job(LMMS, tmp_path, "ours")
    with pytest.raises(UserError, match="1 of 2 requests failed"):
        lmms_eval.score(asked, lmms_eval.collect(asked), "ours")


def test_rows_are_paired_and_share_a_table_with_the_probes(tmp_path: Path) -> None:
    many = {str(k): float(k % 4 > 0) for k in range(80)}
    none = {str(k): 0.0 for k in range(80)}
    rows = [
        _row("vlmevalkit", None, Score("MMStar", "Overall", 0.0, none), Score("MMStar", "Overall", 0.75, many)),
        _row("vlmevalkit", None, Score("OCRBench", "Final", 612, None), Score("OCRBench", "Final", 640, None)),
    ]
    assert [row["verdict"] for row in rows] == ["improved", "no interval"]
    share = {"point": 0.4, "low": 0.3, "high": 0.5, "trials": 90, "games": 30}
    probe = {"label": "exists", "before": share, "after": share, "difference": share, "verdict": "improved"}
    about = {"base": "nano:1", "checkpoint": "step:2"}
    write_sheet(tmp_path, "probes", about | {"rows": [probe], "left_out": {"count": "no words", "trend": "no words"}})
    text = write_sheet(tmp_path, "vlmevalkit", about | {"rows": rows})
    assert [line.split("|")[1].strip() for line in text.splitlines()[2:5]] == [
        "exists",
        "MMStar (VLMEvalKit)",
        "OCRBench (VLMEvalKit)",
    ]
    assert "Overall: 0 -> 0.75" in text
    assert "Final: 612 -> 640" in text
    assert text.endswith("left out: count, trend (no words)")
    assert (tmp_path / "table.md").read_text() == text + "\n"
    assert len(read_sheets(tmp_path)) == 2
    nano = find_weights("nano")
    with pytest.raises(UserError, match="is about nano:1 and step:2"):
        check_models(tmp_path, nano, nano)
    with pytest.raises(UserError, match="not asked the same questions"):
        _row("vlmevalkit", None, Score("M", "m", 0, {"0": 1.0}), Score("M", "m", 0, {"1": 1.0}))


def test_questions_about_one_pair_count_together() -> None:
    made = ProbeFile("Ours", b"", tuple(f"pair-{k // 4}" for k in range(80)))
    side = {f"Ours/{k}": float(k // 4 % 2) for k in range(80)}
    other = {key: 1 - value for key, value in side.items()}
    row = _row("lmms-eval", made, Score("Ours", "m", 0.5, side), Score("Ours", "m", 0.5, other))
    assert (row["after"]["trials"], row["after"]["games"]) == (80, 20)


def test_what_is_missing_is_said_before_anything_is_served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path / "none"))
    nano = find_weights("nano")
    order = Order("vlmevalkit", "probes", None, None, "auto")

    def never() -> ProbeFile:
        raise AssertionError("made probes")

    with pytest.raises(UserError, match="vision-zero harness install vlmevalkit"):
        run_suite(order, nano, nano, never, tmp_path / "out", print)
    assert not (tmp_path / "out").exists()
    (tmp_path / "none" / "lmms-eval").mkdir(parents=True)
    (tmp_path / "none" / "lmms-eval" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and no virtual environment"):
        environment.install("lmms-eval")
    arguments = ["eval", "nano", "--base", "nano", "--out", str(tmp_path / "out"), "--suite", "lmms-eval"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "want --benchmarks" in done.stderr
    done = CliRunner().invoke(app, [*arguments, "--benchmarks", "MMStar"])
    assert done.exit_code == 2
    assert "vision-zero harness install lmms-eval" in done.stderr


def test_a_served_model_sees_pictures_under_the_limit_of_its_run(tmp_path: Path) -> None:
    folder = Path(files.resolve("nano"))
    _link(folder, tmp_path / "served")
    _limit_pixels(tmp_path / "served", 3072)
    reader: Any = AutoProcessor
    assert reader.from_pretrained(tmp_path / "served").image_processor.size["longest_edge"] == 3072
    assert reader.from_pretrained(folder).image_processor.size["longest_edge"] > 3072
