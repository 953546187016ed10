from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator

from vision_zero.config import UpdateConfig
from vision_zero.errors import UserError
from vision_zero.update.optimizer import MasterAdamW, learning_rate


def rates(steps: int, **config: object) -> list[float]:
    c = UpdateConfig.model_validate({"learning_rate": 1.0} | config)
    return [learning_rate(i, steps, c) for i in range(steps)]


def test_warmup_in_steps_then_cosine() -> None:
    got = rates(8, warmup=4)
    assert got[:4] == [0.25, 0.5, 0.75, 1.0]
    assert got[4:] == pytest.approx([0.9045085, 0.6545085, 0.3454915, 0.0954915])


def test_warmup_as_a_share_then_constant() -> None:
    assert rates(10, warmup=0.2, schedule="constant") == [0.5] + [1.0] * 9


def test_without_warmup_the_first_step_is_at_full_rate_and_none_is_zero() -> None:
    got = rates(5, warmup=0)
    assert got[0] == 1.0
    assert sorted(got, reverse=True) == got
    assert got[-1] > 0


def weights(dtype: torch.dtype) -> dict[str, torch.nn.Parameter]:
    g = torch.Generator().manual_seed(0)
    return {n: torch.nn.Parameter(torch.randn(5, 3, generator=g).to(dtype)) for n in ("a", "b")}


def train(
    parameters: dict[str, torch.nn.Parameter], optimizer: MasterAdamW, steps: int, rate: float, first: int = 0
) -> None:
    for step in range(first, first + steps):
        for i, p in enumerate(parameters.values()):
            p.grad = torch.full_like(p, 1.0 + i + step)
        optimizer.accumulate()
        optimizer.step(rate)


def test_float32_steps_are_those_of_adamw() -> None:
    config = UpdateConfig(weight_decay=0.1)
    ours, theirs = weights(torch.float32), weights(torch.float32)
    train(ours, MasterAdamW(ours, config), 3, 1e-2)
    adam = torch.optim.AdamW(theirs.values(), lr=1e-2, weight_decay=0.1)
    for step in range(3):
        for i, p in enumerate(theirs.values()):
            p.grad = torch.full_like(p, 1.0 + i + step)
        adam.step()
    for n in ours:
        torch.testing.assert_close(ours[n], theirs[n])


def test_small_steps_on_rounded_weights_are_not_lost() -> None:
    """100 steps of 1e-4 move a bfloat16 weight near 1, where each alone is below its rounding step of 0.008."""
    parameter = {"w": torch.nn.Parameter(torch.full((4,), 1.0, dtype=torch.bfloat16))}
    train(parameter, MasterAdamW(parameter, UpdateConfig()), 100, 1e-4)
    torch.testing.assert_close(parameter["w"].float(), torch.full((4,), 0.99), atol=0.004, rtol=0)


def test_gradients_of_rounded_weights_add_up_in_float32() -> None:
    parameter = {"w": torch.nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))}
    optimizer = MasterAdamW(parameter, UpdateConfig())
    for _ in range(300):  # in bfloat16 the sum would stay at 256
        parameter["w"].grad = torch.ones(1, dtype=torch.bfloat16)
        optimizer.accumulate()
    assert float(optimizer.clip(1e9)) == 300


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_restored_optimizer_goes_on_bit_for_bit(dtype: torch.dtype) -> None:
    config = UpdateConfig()
    through, before, after = weights(dtype), weights(dtype), weights(dtype)
    train(through, MasterAdamW(through, config), 4, 1e-3)
    first = MasterAdamW(before, config)
    train(before, first, 2, 1e-3)
    for n, p in before.items():
        after[n].data.copy_(p)
    second = MasterAdamW(after, config)
    second.load_state_dict(first.state_dict())
    train(after, second, 2, 1e-3, first=2)
    assert all(torch.equal(through[n], after[n]) for n in through)


def test_a_state_for_other_weights_is_refused() -> None:
    one, other = weights(torch.float32), {"c": weights(torch.float32)["a"]}
    with pytest.raises(UserError, match="other trainable weights"):
        MasterAdamW(other, UpdateConfig()).load_state_dict(MasterAdamW(one, UpdateConfig()).state_dict())


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(UserError, match="no trainable weights"):
        MasterAdamW({}, UpdateConfig())


def test_clip_returns_the_norm_before() -> None:
    parameters = weights(torch.float32)
    optimizer = MasterAdamW(parameters, UpdateConfig())
    for p in parameters.values():
        p.grad = torch.full_like(p, 2.0)
    optimizer.synchronise(Accelerator(cpu=True))
    assert float(optimizer.clip(1.0)) == pytest.approx(2 * 30**0.5)
    assert sum(float(p.grad.square().sum()) for p in parameters.values() if p.grad is not None) == pytest.approx(1.0)
