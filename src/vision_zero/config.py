"""One typed tree for everything that can be set.

Read from a YAML recipe plus `--set a.b=c`. A contradiction is refused when the tree is built, with the
remedy in the message. Defaults are the paper's values where it gives them (arXiv 2509.25541 v2, Table 5).
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from vision_zero.config_alarms import AlarmConfig
from vision_zero.config_pairs import (
    ChartPairs,
    ClevrPairs,
    DiffusersEditor,
    EndpointEditor,
    FolderPairs,
    Node,
    PairsConfig,
    PhotoPairs,
    Positive,
    Probability,
)
from vision_zero.config_rollouts import RolloutConfig, VllmConfig
from vision_zero.errors import UserError

__all__ = [
    "AlarmConfig",
    "ChartPairs",
    "ClevrPairs",
    "DiffusersEditor",
    "EndpointEditor",
    "FolderPairs",
    "Node",
    "PairsConfig",
    "PhotoPairs",
    "Positive",
    "Probability",
    "RolloutConfig",
    "VllmConfig",
]

MOST_BYTES = 1 << 20
"""Of a recipe; a device has no end."""


class GameConfig(Node):
    """The rules of who-is-the-spy and how it is worded."""

    name: Literal["spy", "pick"] = "spy"
    civilians: Annotated[int, Field(ge=2)] = 3
    spies: Positive = 1
    rounds: Annotated[int, Field(ge=1, le=4)] = 2
    spy_picture: Literal["modified", "blank"] = "modified"
    spy_may_speak_first: bool = True
    voters: Literal["civilians", "analyst"] = "civilians"
    """`civilians`: each votes with its own picture (paper). `analyst`: one impersonal judge with the
    original picture (published code)."""
    votes_per_voter: Positive = 1
    """Samples drawn from each voter's prompt. The published code draws 8 from its analyst."""
    layout: Literal["shared", "published"] = "shared"
    """`shared`: picture, rules, public clues, private part last, so that prompts share prefixes.
    `published`: the private part first."""
    wording: Literal["full", "compact"] = "full"
    """`full`: instructions, private thought and boxes, for real models. `compact`: bare words, for the tiny one."""
    subject: Literal["clevr", "charts", "photos"] = "clevr"
    max_clue_tokens: Positive = 1024
    max_vote_tokens: Positive = 1024
    max_clue_characters: Positive = 300
    """A clue is cut to this length, at a word, before others see it."""

    @model_validator(mode="after")
    def _check(self) -> GameConfig:
        if self.spies >= self.civilians:
            raise ValueError(f"spies={self.spies} must be fewer than civilians={self.civilians}: lower game.spies")
        return self


class LoraConfig(Node):
    """Low-rank adapters instead of full fine-tuning."""

    rank: Positive = 16
    alpha: Positive = 32
    dropout: Probability = 0.0
    where: Literal["language", "language+vision"] = "language"


class ModelConfig(Node):
    """Which model learns, and which of its parts."""

    path: str = "nano"
    """`nano` (ships with the package), a folder, or a Hub id."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    train: Literal["language", "all"] = "all"
    """`language` freezes the vision tower and its projector."""
    lora: LoraConfig | None = None
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    gradient_checkpointing: bool = False
    max_pixels: Positive | None = None
    """Pictures are scaled down to at most this many pixels before the vision tower; None: as its processor says."""


class StageConfig(Node):
    """Which stage is trained when (paper eqs. 7-10)."""

    schedule: Literal["measured", "cycle", "clue", "decision"] = "measured"
    """`measured`: by thresholds on EMAs. `cycle`: fixed length. `clue`, `decision`: only that one."""
    start: Literal["decision", "clue"] = "decision"
    rho: Probability = 0.95
    bias_correction: bool = False
    """Divide the EMA by 1 - rho^t, so that it does not need dozens of steps to leave zero."""
    accuracy_up: Probability = 0.9
    na_down: Probability = 0.1
    error_up: Probability = 0.4
    na_up: Probability = 0.5
    min_dwell: Positive = 5
    patience: Positive | None = 20
    """Switch after this many steps in a stage whatever the measures say; None: never force."""
    cycle_length: Positive = 1
    clue_rate: Annotated[float, Field(gt=0)] = 1.0
    """Factor on the learning rate in clue steps. Their rewards are noisy, and a large rate on noise unlearns voting."""

    @model_validator(mode="after")
    def _check(self) -> StageConfig:
        if self.patience is not None and self.patience < self.min_dwell:
            raise ValueError(
                f"patience={self.patience} would force a switch before min_dwell={self.min_dwell}: "
                "raise credit.stages.patience or lower credit.stages.min_dwell"
            )
        if self.bias_correction and self.rho == 1:
            raise ValueError("rho=1 never moves the EMAs: lower credit.stages.rho or turn bias_correction off")
        return self


class CreditConfig(Node):
    """Votes to rewards to advantages."""

    beta: float = 0.1
    lam: float = 0.1
    malformed_clue_penalty: float = 0.0
    """Subtracted from the reward of a turn whose clue could not be read."""
    expected_votes: bool = True
    """A voter asked several times counts once, split over its answers; False: every answer is a whole vote
    (published code)."""
    rae_alpha: Probability = 0.95
    rae_order: Literal["subtract_then_update", "update_then_subtract"] = "subtract_then_update"
    rae_update_in: Literal["clue_steps", "all_steps"] = "clue_steps"
    rae_games_per_update: Positive | None = None
    """Games whose mean moves the baselines at once; None: all of the step. The published code: one a process, so 8."""
    normalise_per_role: bool = False
    """Divide clue advantages by their standard deviation within the role over the step."""
    correct: float = 1.0
    abstain: float = -0.5
    wrong: float = -1.0
    invalid: float = -1.0
    format_bonus: float = 0.0
    """Added to a decision reward if a non-empty thought and a readable vote are there, subtracted if not."""
    format_thought_characters: Annotated[int, Field(ge=0)] = 0
    """A thought must be longer than this to count for the format bonus (published code: 10)."""
    correct_bonus: float = 0.0
    """Added to a correct decision (the published code's shaping term)."""
    group: Literal["game", "voter"] = "game"
    """Which votes are normalised together: all of a game (paper: its civilians), or the draws of one voter."""
    group_divide_by_std: bool = True
    stages: StageConfig = StageConfig()
    train_both_in_clue: bool = False
    """The published code's gating defect: clue steps train the votes as well."""
    anchor: float = 0.0
    """KL coefficient on the tokens of the stage that is not being trained; 0: those tokens are left out."""
    anchor_on: tuple[Literal["clue", "decision"], ...] = ("clue", "decision")
    """Which stage's tokens are anchored while the other is trained. Anchored votes fall back towards the start."""


class UpdateConfig(Node):
    """Advantages to weights."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.1
    """Steps of linear warm-up; below 1 a share of all steps."""
    betas: tuple[Probability, Probability] = (0.9, 0.999)
    weight_decay: float = 0.0
    kl: float = 0.04
    clip_low: float = 0.2
    clip_high: float = 0.2
    average: Literal["sequence", "token"] = "sequence"
    """Mean over tokens of a sequence, then over sequences (published code); or one mean over all tokens."""
    epochs: Positive = 1
    minibatches: Positive = 1
    """Optimizer steps per epoch."""
    max_gradient_norm: Annotated[float, Field(gt=0)] = 1.0
    tokens_per_batch: Positive = 16384
    """Most tokens (padding included) in one forward; sets memory, not results."""
    pack: Literal["tree", "none"] = "tree"
    """`tree`: prefixes that samples of a game share are computed once. `none`: every sample apart. Same gradients."""
    max_skipped: Annotated[int, Field(ge=0)] = 3
    """An update whose loss or gradient is not finite is skipped; more of them in a row than this stop the run."""
    max_sampler_difference: Annotated[float, Field(gt=0)] = 0.5
    """Mean |log-prob of sampler minus trainer| above which the run stops."""
    importance_cap: Annotated[float, Field(ge=1)] | None = 2.0
    """Each token's policy gradient is weighted by p(trainer) / p(sampler), cut to this; None: no correction."""


class DevicesConfig(Node):
    """How one model lies on several devices."""

    nodes: Positive = 1
    """Machines, each with `processes` processes."""
    shard: Literal["none", "fsdp", "zero2", "zero3"] = "none"
    """`none`: every process holds everything. `fsdp` (torch's fully_shard) and `zero3` (DeepSpeed): while it trains,
    each holds a piece of weights, gradients and moments; `zero2` (DeepSpeed): of gradients and moments."""
    reference: Literal["device", "cpu"] = "device"
    """Where the copy of the frozen start is between its uses. With LoRA there is none: the adapter is switched off."""


class EvaluationConfig(Node):
    """Held-out games against the frozen start, before, during and after."""

    games: Annotated[int, Field(ge=0)] = 0
    """Held-out deals; 0: no evaluation."""
    every: Annotated[int, Field(ge=0)] = 0
    """Steps between evaluations while training; 0: only when training is done."""

    @model_validator(mode="after")
    def _check(self) -> EvaluationConfig:
        if self.games == 1:
            raise ValueError("a comparison needs at least 2 held-out games: raise evaluation.games, or set it to 0")
        return self


class SaveConfig(Node):
    """Checkpoints and trackers."""

    every: Positive = 10
    keep: Annotated[int, Field(ge=2)] = 3
    trackers: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ("tensorboard",)


class RunConfig(Node):
    """A whole training run. Every recipe is one of these."""

    name: str = "run"
    seed: int = 0
    reproducible: bool = False
    """The same bits on the CPU whatever the batch size and the number of processes: every completion and every read
    is computed with no other beside it, and every process takes the whole update. Slower, for checks."""
    steps: Positive = 100
    games_per_step: Positive = 128
    processes: Positive = 1
    """Processes on each machine: GPUs, or cores where there are none. At 1, `torchrun` may start any number."""
    max_wait_minutes: Annotated[float, Field(gt=0)] = 60.0
    """Longest that a process waits for another; then the run stops and says where each of them is."""
    devices: DevicesConfig = DevicesConfig()
    pairs: PairsConfig = ClevrPairs()
    game: GameConfig = GameConfig()
    model: ModelConfig = ModelConfig()
    rollouts: RolloutConfig = RolloutConfig()
    credit: CreditConfig = CreditConfig()
    update: UpdateConfig = UpdateConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    save: SaveConfig = SaveConfig()
    sight_check_every: Positive = 10
    """Steps between checks that log-probs depend on the pictures."""
    alarms: AlarmConfig = AlarmConfig()

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        if self.game.voters == "analyst" and self.credit.group == "game" and self.game.votes_per_voter == 1:
            raise ValueError(
                "one analyst vote a game leaves nothing to compare within a group: "
                "set game.votes_per_voter to 2 or more"
            )
        if self.credit.group == "voter" and self.game.votes_per_voter == 1:
            raise ValueError("credit.group=voter needs game.votes_per_voter of 2 or more")
        if self.game.wording == "compact" and self.credit.format_bonus:
            raise ValueError(
                "compact answers have no private thought, so that no vote could earn the format bonus: "
                "set credit.format_bonus=0 or game.wording=full"
            )
        if self.model.lora is not None and self.devices.reference == "cpu":
            raise ValueError(
                "with model.lora the frozen start is the model with its adapter switched off, no copy that could be "
                "off-loaded: remove devices.reference"
            )
        if self.reproducible and (self.rollouts.engine != "hf" or self.devices.shard != "none"):
            raise ValueError(
                "reproducible needs rollouts.engine=hf and devices.shard=none: others sum in an order of their own"
            )
        frozen = set(self.rollouts.opponents)
        if frozen == {"civilian", "spy"}:
            raise ValueError("every role is frozen, so that nobody learns: remove one from rollouts.opponents")
        if "civilian" in frozen and self.credit.stages.schedule != "clue":
            raise ValueError(
                "with frozen civilians no vote is the policy's, so that decision steps train nothing: "
                "set credit.stages.schedule=clue or remove civilian from rollouts.opponents"
            )
        return self


def load_config(recipe: Path | None, overrides: list[str] | None = None) -> RunConfig:
    """Read a recipe and apply `a.b=c` overrides (values are YAML).

    Raises `UserError` naming the file, the key, the nearest known key and the remedy.
    """
    tree: dict[str, Any] = {}
    if recipe is not None:
        try:
            with recipe.open("rb") as file:
                data = file.read(MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                raise UserError(f"{recipe} has more than {MOST_BYTES >> 20} MB: it is no recipe")
            loaded = yaml.safe_load(data.decode())
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as e:
            raise UserError(f"cannot read recipe {recipe}: {e}") from e
        if not isinstance(loaded, dict):
            raise UserError(f"recipe {recipe} is not a YAML mapping: start it with `name: ...`")
        tree = loaded
    for item in overrides or []:
        key, sep, value = item.partition("=")
        if not sep or not key:
            raise UserError(f"--set {item!r} is not of the form a.b=c")
        try:
            parsed = yaml.safe_load(value)
        except (ValueError, RecursionError, yaml.YAMLError) as e:
            raise UserError(f"--set {item!r}: {value!r} is not a YAML value: {e}") from e
        _put(tree, key.split("."), parsed, item)
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as e:
        raise UserError(_explain(e, str(recipe) if recipe else "configuration")) from e


def _put(tree: dict[str, Any], keys: list[str], value: object, item: str) -> None:
    for key in keys[:-1]:
        below = tree.get(key)
        if below is None:
            below = tree[key] = {}
        if not isinstance(below, dict):
            raise UserError(f"--set {item!r}: {key!r} has no settings below it")
        tree = below
    tree[keys[-1]] = value


def _explain(error: ValidationError, where: str) -> str:
    lines = []
    for e in error.errors():
        path = [str(p) for p in e["loc"]]
        text = f"{where}: {'.'.join(path) or 'recipe'}: {e['msg']}"
        if e["type"] == "extra_forbidden":
            near = difflib.get_close_matches(path[-1], _known_keys(), n=1)
            text = f"{where}: unknown key {'.'.join(path)!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        lines.append(text)
    return "\n".join(lines)


def _known_keys() -> list[str]:
    nodes: list[type[Node]] = [Node]
    names: set[str] = set()
    while nodes:
        node = nodes.pop()
        names |= set(node.model_fields)
        nodes += node.__subclasses__()
    return sorted(names)
