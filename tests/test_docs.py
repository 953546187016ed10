"""The pages cannot drift from the code: what README and docs name exists, what they tell people to type works.

Every rule is a function from a page's text to complaints, proved on a small offender before it is turned on
the pages.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import typer
import yaml

from vision_zero.cli import app
from vision_zero.config import Node, RunConfig, load_config
from vision_zero.errors import UserError

UsageError = typer.BadParameter.__mro__[1]
"""Of the click inside or beside typer, by its version."""

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [page for page in (ROOT / "README.md", *sorted(DOCS.glob("*.md"))) if page.exists()]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
SOURCE_FILE = re.compile(r"[\w./-]+\.(py|yaml|md|txt)|[\w./-]+/")
SETTING = re.compile(r"--set '?([\w.]+)=")
PLACEHOLDER = re.compile(r"(?<![a-z])[A-Z][A-Z0-9-]*(?![a-z])")
"""A whole word in capitals stands for something else: `games/NAME.py`."""


def fences(text: str, *languages: str) -> Iterator[str]:
    return (body for language, body in FENCE.findall(text) if language in languages)


def prose(text: str) -> str:
    return FENCE.sub("", text)


# Links and files


def anchors(page: Path) -> set[str]:
    """The names under which a page's headings can be linked, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(text: str, page: Path) -> list[str]:
    found = []
    for target in (a or b for a, b in LINK.findall(prose(text))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            found.append(target)
    return found


ROOTS = (ROOT, ROOT / "src" / "vision_zero", DOCS)
SOURCE_FOLDERS = {
    p.name for root in ROOTS[:2] for p in root.iterdir() if p.is_dir() and p.name not in ("runs", "build")
}


def missing_files(text: str, page: Path) -> list[str]:
    """Names of files of the repository in running text. Files of a run directory are told by their first folder."""
    found = []
    for name in CODE.findall(prose(text)):
        ours = name.endswith(".py") or name.partition("/")[0] in SOURCE_FOLDERS
        whole = SOURCE_FILE.fullmatch(name) and not PLACEHOLDER.search(name)
        if ours and whole and not any((root / name).exists() for root in ROOTS):
            found.append(name)
    return found


# Settings


def known_settings(node: Any = RunConfig, prefix: str = "") -> Iterator[str]:
    """Every key of the tree, branches too, through all alternatives. Example: `"pairs.editor.model"`"""
    for name, field in node.model_fields.items():
        yield prefix + name
        for branch in branches(field.annotation):
            yield from known_settings(branch, f"{prefix}{name}.")


def branches(annotation: Any) -> Iterator[type[Node]]:
    if get_origin(annotation) is Annotated:
        yield from branches(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for alternative in get_args(annotation):
            yield from branches(alternative)
    elif isinstance(annotation, type) and issubclass(annotation, Node):
        yield annotation


KNOWN = set(known_settings())
SECTIONS = {name for name in RunConfig.model_fields if any(k.startswith(f"{name}.") for k in KNOWN)}


def unknown_settings(text: str, page: Path) -> list[str]:
    """Keys after --set, and names in running text that look like keys: `game.rounds`, `update.kl: 0`."""
    named = SETTING.findall(text)
    for name in CODE.findall(prose(text)):
        key = re.match(r"(\w+)(\.\w+)+(?=$|=|:| )", name)
        if key and key[1] in SECTIONS:
            named.append(key[0])
    return [key for key in named if key not in KNOWN and key != "a.b"]


# Commands, recipes and scripts


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of every `vision-zero …` in code fences and in running text, without the program's name.

    In running text a command's bare name must exist, and a lone `--set …` must be good on the demo's recipe.
    """
    lines = [line for body in fences(text, "sh", "bash", "console") for line in body.replace("\\\n", " ").splitlines()]
    for code in CODE.findall(prose(text)):
        named = re.fullmatch(r"vision-zero( [a-z]+)+", code)
        whole = f"vision-zero config recipes/nano.yaml {code}" if code.startswith("--set ") else code
        lines.append(f"{whole} --help" if named else whole)
    for line in lines:
        if "vision" not in line:
            continue
        words = shlex.split(line, comments=True)
        for start in (["vision-zero"], [".venv/bin/vision-zero"], ["python", "-m", "vision_zero.cli"]):
            if words[: len(start)] == start:
                yield words[len(start) :]
        if "torchrun" in words[:1] and "vision_zero.cli" in words:
            yield words[words.index("vision_zero.cli") + 1 :]


def parse(arguments: list[str]) -> dict[str, Any]:
    """What the command line makes of the arguments; nothing is run. Raises a `UsageError`."""
    command: Any = typer.main.get_command(app)
    for leaf in leaves(command):
        leaf.callback = lambda **given: given
    given = command.main(arguments, prog_name="vision-zero", standalone_mode=False)
    return given if isinstance(given, dict) else {}  # --help


def leaves(command: Any) -> Iterator[Any]:
    below = getattr(command, "commands", None)
    if below is None:
        yield command
    else:
        for inner in below.values():
            yield from leaves(inner)


def bad_commands(text: str, page: Path) -> list[str]:
    """Command lines with unknown commands, options or values, and with settings that their recipe refuses."""
    found = []
    for arguments in commands(text):
        try:
            given = parse(arguments)
            recipe = given.get("recipe")
            # a run, which may stand for its recipe, is only an example
            if recipe is not None and Path(recipe).suffix == ".yaml" and not PLACEHOLDER.search(str(recipe)):
                load_config(ROOT / recipe, list(given.get("overrides") or []))
        except (UsageError, UserError) as e:
            found.append(f"{shlex.join(arguments)}: {getattr(e, 'message', None) or e}")
    return found


def bad_recipes(text: str, page: Path) -> list[str]:
    found = []
    for body in fences(text, "yaml"):
        try:
            RunConfig.model_validate(yaml.safe_load(body))
        except ValueError as e:
            found.append(str(e))
    return found


def bad_scripts(text: str, page: Path) -> list[str]:
    """Python that does not parse, or that imports from our package what is not defined there."""
    found = []
    for body in fences(text, "python"):
        try:
            tree = ast.parse(body)
        except SyntaxError as e:
            found.append(str(e))
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("vision_zero"):
                names = defined(str(node.module))
                found += [f"{node.module}.{alias.name}" for alias in node.names if alias.name not in names]
    return found


def defined(module: str) -> set[str]:
    """Names at the top of a module of ours, without importing it; none if there is no such module."""
    path = ROOT / "src" / Path(*module.split("."))
    file = next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.exists()), None)
    if file is None:
        return set()
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {t.id for t in targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


Rule = Callable[[str, Path], list[str]]
RULES: tuple[Rule, ...] = (dead_links, missing_files, unknown_settings, bad_commands, bad_recipes, bad_scripts)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_say_what_is_so(page: Path, rule: Rule) -> None:
    assert rule(page.read_text(encoding="utf-8"), page) == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (dead_links, "see [there](nowhere.md)"),
        (dead_links, "see [there](house.md#no-such-heading)"),
        (dead_links, "![a picture](missing.png)"),
        (missing_files, "in `games/chess.py`"),
        (missing_files, "in `recipes/chess.yaml`"),
        (missing_files, "in `tests/chess/`"),
        (unknown_settings, "set `game.round` to 3"),
        (unknown_settings, "say `--set game.round=3`"),
        (unknown_settings, "with `update.kll: 0` it is not computed"),
        (unknown_settings, "```sh\nvision-zero train recipes/nano.yaml --set 'pears={kind: clevr}'\n```"),
        (bad_commands, "```sh\nvision-zero trian recipes/nano.yaml\n```"),
        (bad_commands, "```sh\nvision-zero train recipes/nano.yaml --step 3\n```"),
        (bad_commands, "```sh\nvision-zero train recipes/nano.yaml \\\n    --steps many\n```"),
        (bad_commands, "```sh\nvision-zero train  # of what?\n```"),
        (bad_commands, "```sh\nvision-zero train recipes/chess.yaml\n```"),
        (bad_commands, "```sh\nvision-zero train recipes/nano.yaml --set pairs.kind=folder --set pairs.path=DIR\n```"),
        (bad_commands, "```sh\ntorchrun --nnodes 2 -m vision_zero.cli train recipes/nano.yaml --into x\n```"),
        (bad_commands, "type `vision-zero replay RUN --outcome lost`"),
        (bad_commands, "type `vision-zero reply`"),
        (bad_commands, "say `--set pairs.kind=folder --set pairs.path=DIR`"),
        (bad_recipes, "```yaml\ngame:\n  rounds: 9\n```"),
        (bad_scripts, "```python\nfrom vision_zero.runs.store import Store\n```"),
        (bad_scripts, "```python\nfrom vision_zero.chess import play\n```"),
        (bad_scripts, "```python\nfor game in\n```"),
    ],
)
def test_the_rules_see_offenders(rule: Rule, text: str) -> None:
    assert len(rule(text, DOCS / "offender.md")) == 1


def test_the_index_has_every_page() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    linked = {a for a, _ in LINK.findall(index)}
    assert {page.name for page in DOCS.glob("*.md")} - {"index.md"} <= linked
