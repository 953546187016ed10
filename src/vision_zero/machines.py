"""Which processes a run asks for, on how many machines: set-ups that would be ignored are refused with a word."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from vision_zero.config import RunConfig
from vision_zero.errors import UserError

SHARDING = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}


@dataclass(frozen=True)
class Place:
    """Where this machine stands among several. `node` is counted from 0; `rendezvous`: HOST:PORT of machine 0.

    Example: `Place(1, "node0:29500")`
    """

    node: int | None = None
    rendezvous: str | None = None


def check_world(config: RunConfig, place: Place, env: Mapping[str, str] = os.environ) -> None:
    """Raises `UserError` if what was started is not what was asked for, or would silently do something else.

    `env`: what torchrun, `accelerate launch` and our own launcher tell a process. A recipe that asks for a single
    process leaves the number to the launcher.
    """
    for variable, name in SHARDING.items():
        if env.get(variable, "").lower() == "true":
            raise UserError(
                f"accelerate's configuration turns on {name}, which would be ignored: the recipe says how weights lie "
                "on devices. Set devices.shard there, and let accelerate only start processes "
                "(launch/accelerate/8gpu.yaml)"
            )
    launched = "WORLD_SIZE" in env
    if not launched and env.get("ACCELERATE_USE_CPU", "").lower() == "true":
        raise UserError(
            "on the CPU `accelerate launch` starts one process, whatever --num_processes says: use `vision-zero train "
            "--devices N`, or torchrun"
        )
    nodes = config.devices.nodes
    asked = config.processes * nodes
    started = int(env["WORLD_SIZE"]) if launched else asked
    if asked not in (1, started):
        raise UserError(
            f"the recipe asks for {asked} processes (processes={config.processes} on each of devices.nodes={nodes}), "
            f"{started} were started: give the launcher that number, or --devices and --nodes the launcher's"
        )
    if started > config.games_per_step:
        raise UserError(
            f"{started} processes for games_per_step={config.games_per_step} would leave some without a game: raise "
            "games_per_step, or start fewer"
        )
    if launched:
        return
    if nodes == 1 and place != Place():
        raise UserError("--node-rank and --rendezvous are for several machines: say how many with --nodes")
    if nodes > 1:
        _check_place(place, nodes)


def _check_place(place: Place, nodes: int) -> None:
    if place.node is None or place.rendezvous is None:
        raise UserError(
            f"{nodes} machines: type the same command on each of them, with --node-rank 0 to {nodes - 1} and "
            "--rendezvous HOST:PORT, an address of machine 0 that all can reach"
        )
    if not 0 <= place.node < nodes:
        raise UserError(f"--node-rank {place.node} of {nodes} machines: they are counted from 0 to {nodes - 1}")
    host, _, port = place.rendezvous.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"--rendezvous {place.rendezvous!r} is not of the form HOST:PORT, e.g. node0:29500")
