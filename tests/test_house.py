"""The walls of the house: who may import whom, and what nobody may write.

Every rule is a function from a module's syntax to complaints, proved on a small offender before it is
turned on the package. To let a new edge in, draw it in `docs` and add it to `EDGES` in the same commit.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
PACKAGE = "vision_zero"

FREE = {"types", "seeds", "errors", "config", "lifeline"}
"""What every module may import. Among themselves they go by `EDGES`."""

EDGES: dict[str, set[str]] = {
    "types": set(),
    "seeds": set(),
    "lifeline": set(),
    "errors": set(),
    "config_pairs": set(),
    "config_rollouts": {"config_pairs"},
    "config_alarms": {"config_pairs"},
    "config": {"errors", "config_pairs", "config_rollouts", "config_alarms"},
    "distributed": set(),
    "launch": {"machines"},
    "machines": set(),
    "preemption": set(),
    "whereabouts": set(),
    "remote": set(),
    "pairs": set(),
    # a model that edits photos may be behind a server
    "pairs.photos.editors": {"remote"},
    "games": set(),
    # a player that is a model needs the model's family and something that samples; the others only the game
    "players": {"games"},
    "players.policy": {"models", "rollouts.engine"},
    "players.api": {"remote"},
    # what they know of a picture is its scene, in the scene's own language
    "players.scripted": {"pairs.clevr.language"},
    "models": set(),
    # the tiny model is made from rendered scenes and the words of the game
    "models.nano": {"pairs", "games"},
    "rollouts": {"pairs", "games", "models"},
    "credit": set(),
    "update": {"models", "distributed"},
    "plan": {"pairs", "games", "models"},
    "runs": set(),
    "evaluate": {"pairs", "games", "players", "models", "rollouts", "credit", "runs", "distributed"},
    "viewer": {"runs", "evaluate.statistics"},
    # the worst batch, before the first step
    "probe": {"models", "plan", "rollouts", "update"},
    "doctor": {"models", "runs", "train"},
    # who plays in a run, and games that a lost player leaves unfinished
    "playing": {"distributed", "games", "players", "models", "rollouts", "credit", "runs"},
    "skipped": {"distributed", "runs", "update"},
    "train": {
        "probe",
        "playing",
        "skipped",
        "preemption",
        "whereabouts",
        "watch",
        "distributed",
        "pairs",
        "models",
        "rollouts",
        "credit",
        "update",
        "plan",
        "runs",
        "evaluate",
    },
    # what a step says of cheating: its games, beside those of the run's first step
    "watch": {"credit", "pairs", "runs"},
    # games with people: the viewer's page over the games that were played, and a seat at the one that is
    "tabletop": {"pairs", "games", "players", "rollouts", "runs", "evaluate.entrants", "viewer"},
    "evaluate_cli": {"evaluate", "runs"},
    "pairs_cli": {"pairs"},
    "pairs_import_cli": {"pairs"},
    "cli": {
        "evaluate_cli",
        "pairs_cli",
        "pairs_import_cli",
        "pairs",
        "doctor",
        "models.nano",
        "models.table",
        "plan",
        "runs",
        "evaluate",
        "viewer",
        "tabletop",
        "train",
        "launch",
        "machines",
        "preemption",
        "rollouts.vllm_launch",
    },
}
"""Module or room -> modules or rooms that it may import, besides `FREE` and its own room."""

HEAVY = {"torch", "torchvision", "transformers", "tokenizers", "accelerate", "peft"}
NETWORK = {"openai", "httpx", "requests", "urllib", "socket", "http", "aiohttp", "huggingface_hub"}
FORBIDDEN_OUTSIDERS = {
    **dict.fromkeys(
        ("types", "seeds", "errors", "config", "config_alarms", "config_pairs", "config_rollouts", "games", "credit"),
        HEAVY | NETWORK,
    ),
    "pairs": HEAVY,
}

ON_USE = {("pairs.photos.pipeline", "torch")}
"""Module and outsider that it may import all the same, inside a function: nobody else of its room loads it."""

PROGRAMS = {"pairs.clevr.blender.render", "evaluate.harness.start", "evaluate.harness.probe_task"}
"""What another Python runs, with packages that ours has not: nobody imports it."""

MOST_LINES = 400
TEXT_FILES = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".jinja", ".sh", ".html", ".js", ".css"}
MACHINE_PATHS = ["/" + top + "/" for top in ("home", "root", "tmp", "work")]


def modules() -> dict[str, Path]:
    """Name without the package -> file. Example: `{"games.base": .../games/base.py, "games": .../games/__init__.py}`"""
    found = {}
    for path in sorted((SOURCE / PACKAGE).rglob("*.py")):
        parts = path.relative_to(SOURCE / PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


# Imports


def imports(tree: ast.Module, known: set[str]) -> Iterator[tuple[str, int]]:
    """Imported modules as absolute names, with lines; `from a import b` is `a.b` where that is a module of ours."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports in full, not relative"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                inside = whole.removeprefix(PACKAGE + ".")
                yield (whole if inside in known else str(node.module)), node.lineno


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def inner_edges(name: str, tree: ast.Module, known: set[str]) -> Iterator[tuple[str, int]]:
    for target, line in imports(tree, known):
        if within(target, PACKAGE):
            yield target.removeprefix(PACKAGE).removeprefix("."), line


def unlawful_edges(name: str, tree: ast.Module, known: set[str] = frozenset(MODULES)) -> list[str]:  # type: ignore[assignment]
    room = name.partition(".")[0]
    lawful = {target for origin, targets in EDGES.items() if within(name, origin) for target in targets}
    if room not in FREE:
        lawful |= FREE | {room}
    complaints = [
        f"{name}:{line} imports {target or PACKAGE}"
        for target, line in inner_edges(name, tree, known)
        if not any(within(target, to) for to in lawful) and target != ""
    ]
    banned = {b for origin, outsiders in FORBIDDEN_OUTSIDERS.items() if within(name, origin) for b in outsiders}
    complaints += [
        f"{name}:{line} imports {target}"
        for target, line in imports(tree, known)
        if target.partition(".")[0] in banned and (name, target) not in ON_USE
    ]
    return complaints


def test_every_module_has_a_room() -> None:
    assert {name.partition(".")[0] for name in MODULES} - {""} <= EDGES.keys()


@pytest.mark.parametrize("name", MODULES)
def test_data_flows_down(name: str) -> None:
    assert unlawful_edges(name, TREES[name]) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("games.spy", "from vision_zero.players.policy import PolicyPlayer"),
        ("games.spy", "import torch.nn"),
        ("games.spy", "from vision_zero import pairs"),
        ("pairs.folder", "from vision_zero.games.base import Deal"),
        ("pairs.folder", "def f():\n    import torch"),
        ("credit.rae", "from torch import Tensor"),
        ("players.human", "from vision_zero.models.base import VLM"),
        ("players.policy", "from vision_zero.rollouts.hf import HfEngine"),
        ("models.base", "from vision_zero.pairs.base import PairSource"),
        ("update.loss", "from vision_zero.credit.group import normalise"),
        ("runs.store", "from vision_zero.games.base import Game"),
        ("viewer.page", "from vision_zero.train import train"),
        ("evaluate.arena", "import vision_zero.update.updater"),
        ("types", "from vision_zero.errors import UserError"),
    ],
)
def test_the_edge_rule_sees_offenders(name: str, source: str) -> None:
    assert len(unlawful_edges(name, ast.parse(source), set(MODULES) | {"pairs"})) == 1


def test_modules_do_not_import_in_circles() -> None:
    graph = {
        name: {t for t, _ in inner_edges(name, tree, set(MODULES)) if t in MODULES and t != name}
        for name, tree in TREES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as e:
        pytest.fail(f"circle of imports: {' -> '.join(e.args[1])}")


def test_rules_of_games_and_help_load_no_torch() -> None:
    """What the syntax cannot see: an import of an import."""
    rooms = {*FREE, "games", "pairs", "credit", "cli"}
    light = [n for n in MODULES if n.partition(".")[0] in rooms and n not in PROGRAMS]
    code = f"import importlib, sys\nfor n in {light}: importlib.import_module('{PACKAGE}.' + n)\n"
    code += f"print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


# What nobody may write


def dotted(node: ast.AST) -> str:
    """`np.random.rand` of the expression that says so; "" of anything that is not a dotted name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr}" if head else ""
    return ""


def global_randomness(tree: ast.Module) -> list[str]:
    """Drawing from, or seeding, state that other code shares. Inside `fork_rng` torch's is not shared."""
    fine_numpy = {"default_rng", "Generator", "SeedSequence", "BitGenerator", "PCG64", "Philox"}
    draws = {"rand", "randn", "randint", "randperm", "multinomial", "bernoulli", "normal", "rand_like", "randn_like"}
    forked = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        and any(
            isinstance(i.context_expr, ast.Call) and dotted(i.context_expr.func).endswith("fork_rng")
            for i in node.items
        )
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            found += [f"{node.lineno}: random.{a.name}" for a in node.names if a.name not in ("Random", "SystemRandom")]
        if isinstance(node, ast.Attribute):
            name = dotted(node)
            head, _, last = name.rpartition(".")
            if head in ("np.random", "numpy.random") and last not in fine_numpy:
                found.append(f"{node.lineno}: {name}")
            if head == "random" and last not in ("Random", "SystemRandom"):
                found.append(f"{node.lineno}: {name}")
        if isinstance(node, ast.Call) and id(node) not in forked:
            head, _, last = dotted(node.func).rpartition(".")
            seeds = head in ("torch", "torch.cuda", "torch.random") and last in (
                "manual_seed",
                "manual_seed_all",
                "seed",
            )
            if seeds or last == "set_seed":
                found.append(f"{node.lineno}: {head}.{last}")
            if head == "torch" and last in draws and not any(k.arg == "generator" for k in node.keywords):
                found.append(f"{node.lineno}: torch.{last} without a generator")
    return found


def unpickling(tree: ast.Module) -> list[str]:
    """Reading what can run code. `torch.load` reads tensors alone if it is told to, in so many words; processes that
    send each other objects unpickle them, which only those of one run may do; a model's folder may bring code."""
    modules = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
    found = [f"{line}: {name}" for name, line in imports(tree, set()) if name.partition(".")[0] in modules]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            options = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
            torch_pickle = dotted(node.func) == "torch.load" and options.get("weights_only") is not True
            sent = dotted(node.func).rpartition(".")[2] in (
                "all_gather_object",
                "gather_object",
                "broadcast_object_list",
                "scatter_object_list",
                "recv_object_list",
            )
            trusting = (
                options.get("allow_pickle", False) is not False or options.get("trust_remote_code", False) is not False
            )
            tags = dotted(node.func) in ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load")
            if torch_pickle or sent or trusting or tags or dotted(node.func) in ("eval", "exec"):
                found.append(f"{node.lineno}: {dotted(node.func)}")
    return found


def swallowed(tree: ast.Module) -> list[str]:
    """Handlers that catch everything and go on, and handlers that do nothing about what they catch."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            broad = any(k is None or dotted(k) in ("Exception", "BaseException") for k in kinds)
            idle = all(
                isinstance(s, ast.Pass | ast.Continue)
                or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
                for s in node.body
            )
            if idle or (broad and not isinstance(node.body[-1], ast.Raise)):
                found.append(f"{node.lineno}: except {ast.unparse(node.type) if node.type else ''}")
        if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] == "suppress":
            found.append(f"{node.lineno}: suppress")
    return found


REVIEWED = {
    # what is not JSON in a player's reply is no vote; the referee never raises on any text
    ("games.speech", "except (ValueError, RecursionError)"),
    # handed to the thread that waits for the result, which raises it
    ("rollouts.bounded", "except BaseException"),
    # between the processes of one run, which one launcher started from one installation
    ("distributed", "dist.all_gather_object"),
    *((name, "gather_object") for name in ("update.tally", "update.updater", "update.parallel.zero")),
}
"""Module and complaint (without its line): exceptions to the rules, each with its reason."""

RULES: list[Callable[[ast.Module], list[str]]] = [global_randomness, unpickling, swallowed]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", MODULES)
def test_nobody_writes(name: str, rule: Callable[[ast.Module], list[str]]) -> None:
    complaints = [(name, complaint.partition(": ")[2]) for complaint in rule(TREES[name])]
    # the tiny model is made from nothing, in a process of its own: there the global generator is nobody else's
    own = {(name, "torch.manual_seed")} if within(name, "models.nano") else set()
    assert set(complaints) - REVIEWED - own == set()


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (global_randomness, "import random\nrandom.random()"),
        (global_randomness, "import random\nf(key=random.choice)"),
        (global_randomness, "from random import shuffle"),
        (global_randomness, "np.random.rand(3)"),
        (global_randomness, "numpy.random.seed(0)"),
        (global_randomness, "torch.manual_seed(0)"),
        (global_randomness, "transformers.set_seed(0)"),
        (global_randomness, "torch.multinomial(p, 1)"),
        (unpickling, "import pickle"),
        (unpickling, "from cloudpickle import loads"),
        (unpickling, "torch.load(path)"),
        (unpickling, "torch.load(path, weights_only=False)"),
        (unpickling, "torch.load(path, weights_only=careful)"),
        (unpickling, "np.load(path, allow_pickle=True)"),
        (unpickling, "dist.all_gather_object(out, mine)"),
        (unpickling, "AutoModel.from_pretrained(path, trust_remote_code=True)"),
        (unpickling, "AutoModel.from_pretrained(path, trust_remote_code=trust)"),
        (unpickling, "yaml.load(text, Loader=yaml.Loader)"),
        (unpickling, "eval(text)"),
        (swallowed, "try: f()\nexcept: x = 1"),
        (swallowed, "try: f()\nexcept Exception as e: log(e)"),
        (swallowed, "try: f()\nexcept (OSError, BaseException): x = 1"),
        (swallowed, "try: f()\nexcept KeyError: pass"),
        (swallowed, "for x in y:\n  try: f()\n  except KeyError: continue"),
        (swallowed, "with contextlib.suppress(KeyError): f()"),
    ],
)
def test_the_rules_see_offenders(rule: Callable[[ast.Module], list[str]], source: str) -> None:
    assert len(rule(ast.parse(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "rng = random.Random(3)\nrng.random()",
        "np.random.default_rng(3).random()",
        "torch.randn(3, generator=g)",
        "with torch.random.fork_rng([]):\n    torch.manual_seed(1)",
        "try: f()\nexcept KeyError as e:\n    raise UserError('x') from e",
        "try: f()\nexcept BaseException:\n    clean()\n    raise",
        "np.load(path, allow_pickle=False)",
        "torch.load(path, weights_only=True)",
        "AutoModel.from_pretrained(path, trust_remote_code=False)",
        "yaml.safe_load(text)",
        "model.eval()",
    ],
)
def test_the_rules_let_the_innocent_pass(source: str) -> None:
    assert [c for rule in RULES for c in rule(ast.parse(source))] == []


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_short(name: str) -> None:
    lines = MODULES[name].read_text(encoding="utf-8").count("\n")
    assert lines <= MOST_LINES, f"{name} has {lines} lines: one concern a module"


def test_no_file_names_a_place_on_one_machine() -> None:
    folders = [ROOT / f for f in ("src", "tests", "recipes", "docs", "benchmarks", ".ci", ".github")]
    files = [p for folder in folders for p in folder.rglob("*") if p.suffix in TEXT_FILES or p.parent.name == ".ci"]
    files += [p for p in ROOT.iterdir() if p.is_file() and (p.suffix in TEXT_FILES or p.name == "Makefile")]
    assert len(files) > len(MODULES)
    found = []
    for path in files:
        if ".egg-info" in str(path):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            found += [f"{path.relative_to(ROOT)}:{number}: {p}" for p in MACHINE_PATHS if p in line]
    assert found == []
