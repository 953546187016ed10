from __future__ import annotations

import math

import pytest
import torch

from vision_zero.update.loss import k3, objective, token_weights

LOW, HIGH = 0.2, 0.3


def terms(logprobs: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, **more: torch.Tensor | float | None):  # type: ignore[no-untyped-def]
    n = len(logprobs)
    settings = {
        "reference": None,
        "policy_weights": torch.ones(n),
        "kl_weights": torch.zeros(n),
        "sampling": old,
        "importance_cap": 2.0,
    }
    return objective(logprobs, old, advantages=advantages, clip_low=LOW, clip_high=HIGH, **(settings | more))


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient", "clipped"),
    [
        (1.0, 2.0, -2.0, -2.0, False),
        (1.2, 2.0, -2.4, -2.4, False),
        (1.5, 2.0, -2.6, 0.0, True),  # up enough already: 1.3 * 2
        (0.5, 2.0, -1.0, -1.0, False),  # the minimum keeps the pull back up
        (1.5, -2.0, 3.0, 3.0, False),
        (0.5, -2.0, 1.6, 0.0, True),  # down enough already: 0.8 * 2
    ],
)
def test_clipped_surrogate(ratio: float, advantage: float, loss: float, gradient: float, clipped: bool) -> None:
    logprobs = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    old = logprobs.detach() - math.log(ratio)
    t = terms(logprobs, old, torch.tensor([advantage]))
    t.loss.backward()
    assert t.loss.item() == pytest.approx(loss)
    assert logprobs.grad is not None
    assert logprobs.grad.item() == pytest.approx(gradient)
    assert bool(t.clipped) is clipped
    assert t.ratio.item() == pytest.approx(ratio)


def test_k3_by_hand() -> None:
    got = k3(torch.tensor([-1.0, -2.0, -0.5]), torch.tensor([-1.0, -1.0, -1.5]))
    torch.testing.assert_close(got, torch.tensor([0.0, math.e - 2, 1 / math.e]))


def test_sequence_and_token_means_by_hand() -> None:
    # Sequences of 1 and 3 tokens, advantages 1 and 2, on policy.
    lengths, advantages = torch.tensor([1, 3, 3, 3]), torch.tensor([1.0, 2.0, 2.0, 2.0])
    logprobs = torch.tensor([-1.0, -2.0, -3.0, -4.0])
    for average, expected in (("sequence", (1 + 2) / 2), ("token", (1 + 2 + 2 + 2) / 4)):
        weights = token_weights(lengths, sequences=2, tokens=4, average=average)  # type: ignore[arg-type]
        t = terms(logprobs, logprobs, advantages, policy_weights=weights)
        assert t.loss.item() == pytest.approx(-expected)


def test_kl_has_its_own_weights_and_anchors_no_policy_gradient() -> None:
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    t = terms(
        logprobs,
        logprobs.detach(),
        torch.tensor([3.0, 0.0]),
        reference=torch.tensor([-1.5, -1.0]),
        policy_weights=torch.tensor([1.0, 0.0]),
        kl_weights=torch.tensor([0.5, 0.25]),
    )
    first, second = math.exp(-0.5) + 0.5 - 1, math.e - 2
    assert t.loss.item() == pytest.approx(-3 + 0.5 * first + 0.25 * second)
    torch.testing.assert_close(t.kl, torch.tensor([first, second]))
    t.loss.backward()
    assert logprobs.grad is not None
    # d k3 / d logprob = 1 - exp(reference - logprob)
    torch.testing.assert_close(logprobs.grad, torch.tensor([-3 + 0.5 * (1 - math.exp(-0.5)), 0.25 * (1 - math.e)]))


def test_gradient_is_that_of_finite_differences() -> None:
    g = torch.Generator().manual_seed(0)
    n = 40
    logprobs = (-3 * torch.rand(n, generator=g, dtype=torch.float64)).requires_grad_()
    old, reference = (logprobs.detach() + 0.4 * torch.randn(n, generator=g, dtype=torch.float64) for _ in range(2))
    fixed = {
        "old": old,
        "reference": reference,
        "advantages": torch.randn(n, generator=g, dtype=torch.float64),
        "policy_weights": torch.rand(n, generator=g, dtype=torch.float64),
        "kl_weights": torch.rand(n, generator=g, dtype=torch.float64),
    }
    assert torch.autograd.gradcheck(lambda lp: terms(lp, **fixed).loss, logprobs)
    assert 0 < int(terms(logprobs, **fixed).clipped.sum()) < n


def test_importance_corrects_for_the_sampler_and_is_cut() -> None:
    """The policy term is weighted by p(old) / p(sampling), at most the cap; the KL term is not."""
    logprobs = torch.tensor([-1.0, -1.0, -1.0], requires_grad=True)
    old = logprobs.detach()
    sampling = old - torch.tensor([0.5, 1.5, 9.0]).log()
    settings = {"kl_weights": torch.ones(3), "reference": old - 1, "sampling": sampling}
    t = terms(logprobs, old, torch.ones(3), importance_cap=3.0, **settings)
    torch.testing.assert_close(t.importance, torch.tensor([0.5, 1.5, 3.0]))
    assert t.truncated.tolist() == [False, False, True]
    assert t.loss.item() == pytest.approx(-(0.5 + 1.5 + 3.0) + 3 / math.e)
    t.loss.backward()
    assert logprobs.grad is not None
    torch.testing.assert_close(logprobs.grad, -torch.tensor([0.5, 1.5, 3.0]) + 1 - 1 / math.e)
    uncorrected = terms(logprobs, old, torch.ones(3), importance_cap=None, **settings)
    assert uncorrected.loss.item() == pytest.approx(-3 + 3 / math.e)
    assert not uncorrected.truncated.any()


def test_importance_makes_the_gradient_that_of_the_trainers_distribution() -> None:
    """Drawn from a distorted distribution q and corrected, the expected policy gradient is that under p."""
    g = torch.Generator().manual_seed(1)
    p_logits = torch.randn(6, generator=g, dtype=torch.float64, requires_grad=True)
    q = (p_logits.detach() + 0.3 * torch.randn(6, generator=g, dtype=torch.float64)).softmax(0)
    gain = torch.randn(6, generator=g, dtype=torch.float64)
    wanted = torch.autograd.grad((p_logits.softmax(0) * gain).sum(), p_logits)[0]
    logprobs = p_logits.log_softmax(0)
    # q as weights: the expectation over draws, without the noise of drawing
    t = terms(logprobs, logprobs.detach(), gain, sampling=q.log(), policy_weights=q, importance_cap=100.0)
    [got] = torch.autograd.grad(-t.loss, p_logits)
    torch.testing.assert_close(got, wanted)
