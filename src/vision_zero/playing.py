"""Who plays in a training run, on which engines, and what becomes of games that a lost player has left unfinished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

from accelerate import Accelerator

from vision_zero.config import RunConfig
from vision_zero.credit.assign import LEARNER
from vision_zero.distributed import gather, rank, shard, tell_all, world
from vision_zero.errors import UserError
from vision_zero.games import make_game
from vision_zero.games.base import Deal, Player
from vision_zero.models.base import VLM
from vision_zero.players.api import ApiPlayer
from vision_zero.players.policy import PolicyPlayer
from vision_zero.rollouts.engines import make_engines
from vision_zero.rollouts.waves import play_in_waves
from vision_zero.runs.store import RunStore
from vision_zero.types import Episode, ImagePair, Role

FROZEN = "frozen"
"""Name of the player with the weights that training started from."""


class PlayersLost(UserError):
    """A player failed in the middle of a step. The games that had ended are kept."""


class Playing:
    """The policy, its frozen start and whoever else sits at the tables; the same on every process."""

    def __init__(self, vlm: VLM, start: VLM, config: RunConfig, store: RunStore, accelerator: Accelerator) -> None:
        self._config, self._store, self._main = config, store, accelerator.is_main_process
        self._start = start
        self.game = make_game(config.game)
        self._at_once = 1 if config.reproducible else config.rollouts.games_at_once
        wait = accelerator.wait_for_everyone
        self.engines = make_engines(vlm, start, config, store.path / "engine", rank(), world(), wait)
        temperature = config.rollouts.temperature
        self.policy = PolicyPlayer(LEARNER, vlm, self.engines[0], temperature, version="0")
        self.frozen = PolicyPlayer(FROZEN, start, self.engines[1], temperature, version="start")
        self._players: dict[str, Player] = {LEARNER: self.policy, FROZEN: self.frozen}
        for name in set(config.rollouts.opponents.values()) - {FROZEN}:
            self._players[name] = ApiPlayer(name.removeprefix("api:"), name=name, temperature=temperature)
        self.cast = {role: config.rollouts.opponents.get(role.value, LEARNER) for role in Role}

    def play(self, deals: Sequence[Deal], players: Mapping[str, Player] | None = None) -> list[Episode]:
        """Play all deals, each process its share; every process gets all episodes in the order of the deals."""
        with self._fixed_weights(frozen_plays=True):
            ended, lost = play_in_waves(self.game, shard(deals), players or self._players, self._at_once, {})
        if lost is not None:
            raise lost
        return gather(ended)

    def play_step(self, step: int, mine: Sequence[Deal]) -> list[tuple[Episode, ImagePair]]:
        """All games of a step with their pairs, `mine` played here.

        Raises `PlayersLost` on every process if a player failed on one; played again, the step takes up the games
        that had ended.
        """
        kept = self._store.read_unfinished(step)
        with self._fixed_weights(frozen_plays=FROZEN in self.cast.values()):
            ended, lost = play_in_waves(self.game, mine, self._players, self._at_once, kept)
        pairs = {deal.id: deal.pair for deal in mine}
        # With its pair, so that a picture that both hold travels once.
        games = gather([(episode, pairs[episode.id]) for episode in ended])
        reasons = [str(e) for e in tell_all(lost) if e is not None]
        if reasons:
            if self._main:
                self._store.keep_unfinished(step, [e for e, _ in games], [pair for _, pair in games])
            raise PlayersLost(
                f"{reasons[0]}. Of the {self._config.games_per_step} games of step {step}, {len(games)} had ended "
                f"and are kept. When that is mended, go on with: vision-zero resume {self._store.path}"
            )
        return games

    def weights_changed(self, step: int) -> None:
        """The policy has the weights of after `step` steps from now on."""
        self.engines[0].weights_changed()
        self.policy.version = str(step)

    def close(self) -> None:
        """End what the engines have started."""
        for engine in self.engines:
            engine.close()

    @contextmanager
    def _fixed_weights(self, frozen_plays: bool) -> Iterator[None]:
        """Inside, engines keep what they have read; a frozen start that plays is where it can."""
        start = self._start.present() if frozen_plays else nullcontext()
        with start, self.engines[0].fixed_weights(), self.engines[1].fixed_weights():
            yield
