"""Rules only: no torch, no tokenizer, no network. A game is one file with one readable coroutine."""

from __future__ import annotations

from vision_zero.config import GameConfig
from vision_zero.games.base import Game
from vision_zero.games.pick import PickGame
from vision_zero.games.spy import SpyGame


def make_game(config: GameConfig) -> Game:
    """The game that `config.name` names."""
    return SpyGame(config) if config.name == "spy" else PickGame(config)
