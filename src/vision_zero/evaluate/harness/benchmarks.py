"""The published benchmarks of Vision-Zero (arXiv 2509.25541), as each tool calls them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from vision_zero.errors import UserError
from vision_zero.evaluate.harness.environment import Tool

PROBES = "probes"
"""Our own questions about held-out pictures, as a benchmark for the tools."""


@dataclass(frozen=True)
class Benchmark:
    """Names and metric of a benchmark in the tools; `judged` names those in which a language model marks replies.

    Example: `Benchmark("ChartQA", ("ChartQA_TEST",), "chartqa", "relaxed_overall")`
    """

    name: str
    vlmevalkit: tuple[str, ...]
    lmms_eval: str
    metric: str
    judged: tuple[str, ...] = ()

    def names(self, tool: str) -> tuple[str, ...]:
        """What a tool calls it."""
        return self.vlmevalkit if tool == "vlmevalkit" else (self.lmms_eval,)


_KIT, _BOTH = ("vlmevalkit",), ("vlmevalkit", "lmms-eval")
PUBLISHED = (
    Benchmark("MathVista", ("MathVista_MINI",), "mathvista_testmini_cot", "llm_as_judge_eval", _BOTH),
    Benchmark("MathVision", ("MathVision",), "mathvision_test", "mathvision_standard_eval", _KIT),
    Benchmark("WeMath", ("WeMath",), "wemath_testmini_reasoning", "acc_score"),
    Benchmark("MathVerse", ("MathVerse_MINI",), "mathverse_testmini", "gpt_eval_score", _BOTH),
    Benchmark("LogicVista", ("LogicVista",), "logicvista_reasoning", "acc_score", _KIT),
    Benchmark("DynaMath", ("DynaMath",), "dynamath_reasoning", "dynamath_average", _KIT),
    Benchmark("ChartQA", ("ChartQA_TEST",), "chartqa", "relaxed_overall"),
    Benchmark("AI2D", ("AI2D_TEST",), "ai2d", "exact_match"),
    Benchmark("TextVQA", ("TextVQA_VAL",), "textvqa_val", "exact_match"),
    Benchmark("DocVQA", ("DocVQA_VAL",), "docvqa_val", "anls"),
    Benchmark("InfoVQA", ("InfoVQA_VAL",), "infovqa_val", "anls"),
    Benchmark("OCRBench", ("OCRBench",), "ocrbench", "ocrbench_accuracy"),
    Benchmark("SEEDBench2", ("SEEDBench2",), "seedbench_2", "seed_all"),
    Benchmark("RealWorldQA", ("RealWorldQA",), "realworldqa", "exact_match"),
    Benchmark("MMVP", ("MMVP",), "mmvp", "mmvp_accuracy"),
    Benchmark("MMStar", ("MMStar",), "mmstar", "average"),
    Benchmark("BLINK", ("BLINK",), "blink", "blink_acc"),
    Benchmark("MuirBench", ("MUIRBench",), "muirbench", "muirbench_score_overall"),
    Benchmark("CRPE", ("CRPE_EXIST", "CRPE_RELATION"), "crpe_relation", "exact_match"),
)
"""Where a benchmark has several parts, the one that the tool's own leaderboard or its mini test is about."""


def resolve(text: str, tool: Tool, judge: str | None) -> tuple[str, ...]:
    """The tool's names of a comma-separated list: published names as above in any case, `all` of them, `probes`,
    or names of the tool's own.

    Raises `UserError` for names that the tool does not know, and for benchmarks that need a judge without one.
    """
    published = {b.name.lower(): b for b in PUBLISHED}
    found: list[str] = []
    for word in (w.strip() for w in text.split(",")):
        benchmark = published.get(word.lower())
        if word == PROBES:
            found.append(PROBES)
        elif word == "all":
            found += [name for b in PUBLISHED for name in _judged(b, tool, judge)]
        elif benchmark is not None:
            found += _judged(benchmark, tool, judge)
        elif word in tool.benchmarks:
            found.append(word)
        else:
            near = get_close_matches(word, {*(b.name for b in PUBLISHED), *tool.benchmarks}, 3, 0.5)
            hint = f" (near: {', '.join(near)})" if near else ""
            raise UserError(f"--benchmarks: {tool.name} {tool.version} knows no benchmark {word!r}{hint}")
    return tuple(dict.fromkeys(found))


def metric_of(task: str, listed: Sequence[str]) -> str:
    """The headline of a task of lmms-eval: as above, else the first that the task lists."""
    return next((b.metric for b in PUBLISHED if b.lmms_eval == task), listed[0])


def _judged(benchmark: Benchmark, tool: Tool, judge: str | None) -> tuple[str, ...]:
    if tool.name in benchmark.judged and judge is None:
        raise UserError(
            f"{benchmark.name}: in {tool.name} a language model marks the replies: name it with --judge MODEL "
            "(an OpenAI-compatible server: OPENAI_BASE_URL, OPENAI_API_KEY)"
        )
    return benchmark.names(tool.name)
