"""What a recipe implies, before any device is touched: games, tokens, memory, time, disk. Reads no weights."""

from __future__ import annotations

from vision_zero.plan.making import Plan, make_plan
from vision_zero.plan.report import print_plan

__all__ = ["Plan", "make_plan", "print_plan"]
