"""How games are played: which engine draws tokens, and what it may use."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vision_zero.config_pairs import Node, Positive


class VllmConfig(Node):
    """What the engines `vllm` and `vllm-server` need to know."""

    urls: tuple[str, ...] = ()
    """Servers of `vllm-server`, such as `http://localhost:8100`; requests are spread over them."""
    folder: str | None = None
    """Where weights are written for vLLM to read; None: in the run directory. A server must see it under this name."""
    memory: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the device that `vllm` may fill with its copy of the weights and its cache (on the CPU: of the RAM)."""
    sleep: bool = True
    """`vllm` gives that memory back while the weights are updated. CUDA only; on the CPU there is nothing to give."""
    context: Positive = 8192
    """Most tokens of a prompt with its answer."""
    eager: bool = False
    """No CUDA graphs: a faster start, slower tokens."""
    max_difference: Annotated[float, Field(gt=0)] | None = None
    """Mean |log-prob of vLLM minus trainer| on the fixed prompt above which the run stops; None: 1e-3 for
    model.dtype=float32, 0.05 for bfloat16."""
    timeout: Annotated[float, Field(gt=0)] = 600.0
    """Most seconds without any progress before the engine is given up."""
    retries: Annotated[int, Field(ge=0)] = 3
    """How often what a server did not answer is asked again, each time after a longer wait."""


class RolloutConfig(Node):
    """How games are played."""

    engine: Literal["hf", "vllm", "vllm-server"] = "hf"
    """`hf`: Transformers' own forward. `vllm`: vLLM in the training process, on its device. `vllm-server`: vLLM
    servers on other devices."""
    vllm: VllmConfig = VllmConfig()
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Used in sampling and in scoring alike."""
    batch_size: Positive = 256
    """Most completions generated at once; changes speed and memory, not results."""
    trunk_cache_gib: Annotated[float, Field(ge=0)] = 4.0
    """Most memory for what was read of prompts, kept while a step is played, so that turns that continue earlier
    ones need not read them again; changes speed, not results. 0: everything is read anew. vLLM has its own cache."""
    tokens_per_read: Positive = 16384
    """Most tokens (padding included) of prompts that `hf` reads in one forward; sets memory, not results."""
    workers: Annotated[int, Field(ge=0)] | None = None
    """Processes, of each process of the run, that make and read the next step's pictures while this one is played and
    trained on; changes speed, not results. 0: none. None: half of the cores that training leaves idle, at most 2."""
    opponents: dict[Literal["civilian", "spy"], Annotated[str, Field(pattern=r"^(frozen|api:.+)$")]] = Field(
        default_factory=dict
    )
    """Roles that the policy does not play: `frozen`, the start; or `api:MODEL`, a model behind an OpenAI-compatible
    server (OPENAI_BASE_URL, OPENAI_API_KEY)."""
    games_at_once: Positive | None = None
    """Games of a process that are played side by side; None: all of its step. Those that have ended are kept if a
    player is lost. With 1, a game's bits depend on no other game, on the CPU."""

    @model_validator(mode="after")
    def _check(self) -> RolloutConfig:
        if self.engine == "vllm-server" and not self.vllm.urls:
            raise ValueError(
                "engine=vllm-server needs servers: start one with `vision-zero rollout-server RECIPE` and set "
                "rollouts.vllm.urls=[http://HOST:PORT]"
            )
        if self.engine != "vllm-server" and self.vllm.urls:
            raise ValueError(f"rollouts.vllm.urls would be ignored by engine={self.engine}: set engine=vllm-server")
        return self
