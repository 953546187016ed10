"""A plan for people."""

from __future__ import annotations

import yaml
from rich.console import Console
from rich.table import Table

from vision_zero.plan.longest import CHARACTERS_PER_TOKEN
from vision_zero.plan.making import Plan, hours
from vision_zero.plan.memory import GIB, packed, steps_of

SMALLEST = GIB // 200
"""Bytes below which a line of the bill is left out."""


def print_plan(plan: Plan, console: Console) -> None:
    """Games, tokens, memory, time and disk. All figures are estimates for answers of full length."""
    _print_work(plan, console)
    _print_bill(plan, console)
    _print_advice(plan, console)
    _print_time(plan, console)
    console.print(
        f"disk: {gib(plan.checkpoint)} a checkpoint, {gib(plan.disk)} for save.keep={plan.config.save.keep}, "
        "the best and the one being written"
    )


def gib(count: float) -> str:
    """Bytes as people read them. Example: `"15.4 GiB"`; below a tenth of a GiB in MiB"""
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:.1f} MiB"


def _count(number: int) -> str:
    """Example: `"8.29 billion"`"""
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.2f} million"


def _print_work(plan: Plan, console: Console) -> None:
    config, game, shape = plan.config, plan.game, plan.shape
    table = Table(title=f"{config.name}: {config.model.path}", title_justify="left", show_header=False)
    table.add_column()
    table.add_column()
    table.add_row("model", f"{_count(shape.parameters)} weights, {_count(shape.trained)} trained")
    table.add_row("its shape is from", shape.source)
    turns = sum(r.draws for r in game.requests)
    table.add_row("games", f"{config.games_per_step} a step, {config.games_per_step * config.steps} in all")
    table.add_row("turns", f"{turns} a game, of {len(game.requests)} different prompts")
    longest = game.longest
    width, height = game.picture_size
    how = "counted by the model's tokenizer"
    if not game.exact:
        how = f"estimate: its tokenizer is not at hand, {CHARACTERS_PER_TOKEN:g} characters are taken for a token"
    table.add_row("a picture", f"{game.picture_tokens} tokens ({width}x{height} pixels)")
    table.add_row("longest prompt", f"{len(longest.ids)} tokens and {longest.budget} for the answer ({how})")
    table.add_row("model's context", f"{shape.text.max_position_embeddings} tokens")
    for stage, read in steps_of(config):
        samples = config.games_per_step * game.completions(read)
        together, apart = sum(game.trees(read)), game.unpacked(read)
        tokens = f"{apart * config.games_per_step} tokens, each sample apart"
        if packed(config, shape.text):
            tokens = (
                f"{together * config.games_per_step} tokens packed as trees, {apart / together:.1f} times as many apart"
            )
        table.add_row(f"{stage.value} step", f"{samples} samples; {tokens}")
    table.add_row("optimizer steps", str(plan.optimizer_steps))
    console.print(table)


def _print_bill(plan: Plan, console: Console) -> None:
    devices = plan.devices
    title = f"memory of each of {devices.count} x {devices.name} ({gib(devices.memory)}), estimate"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("while playing", justify="right")
    table.add_column("in an update", justify="right")
    for line in plan.bill.lines:
        if max(line.play, line.update) >= min(SMALLEST, plan.bill.peak // 200):
            table.add_row(line.name, *(gib(b) if b else "" for b in (line.play, line.update)))
    table.add_section()
    table.add_row("in all", gib(plan.bill.play), gib(plan.bill.update))
    console.print(table)
    if devices.count > 1:
        pieces = "" if plan.config.devices.shard == "none" else ", pieces of it while it is updated"
        console.print(f"every device holds the whole model{pieces}; games are dealt to devices")


def _print_advice(plan: Plan, console: Console) -> None:
    usable = gib(plan.devices.usable)
    if plan.fits:
        console.print(f"[green]it fits[/green]: {gib(plan.bill.peak)} of {usable} that may be filled")
        return
    console.print(f"[red]it does not fit[/red]: {gib(plan.bill.peak)}, but {usable} may be filled")
    advice = plan.advice
    if advice is None or not advice.changes:
        console.print("no setting would make it smaller: take a smaller model or a larger device")
        return
    does = "it fits" if advice.fits else "least, still too much: take a smaller model or a larger device"
    console.print(f"cheapest changes, {gib(advice.peak)} with them ({does}):")
    for change in advice.changes:
        settings = " ".join(f"--set '{k}={_value(v)}'" for k, v in change.settings.items())
        console.print(f"  {settings}   ({change.price})", markup=False, highlight=False, soft_wrap=True)


def _value(value: object) -> str:
    """As `--set` reads it."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()


def _print_time(plan: Plan, console: Console) -> None:
    speed, total = plan.devices.speed, hours(plan)
    if plan.seconds is None or speed is None or total is None:
        console.print(f"time: unknown, nobody has measured {plan.devices.name} with this package yet")
        return
    for stage, s in plan.seconds.items():
        parts = f"play {s.play:.1f}, reference {s.reference:.1f}, update {s.update:.1f}"
        console.print(f"{stage.value} step: {s.step:.1f} s ({parts})")
    console.print(f"time: about {total:.1f} hours for {plan.config.steps} steps, estimate ({speed.where})")
