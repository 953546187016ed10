"""A frozen copy that rests off the device and comes when it is used."""

from __future__ import annotations

import torch

from tests.tiny_models import load_tiny


def test_a_resting_reference_is_the_reference() -> None:
    vlm = load_tiny("qwen2_5_vl", train="language")
    here, resting = vlm.reference(), vlm.reference(offload=True)
    weights = dict(here.model.named_parameters())
    with resting.present():
        assert all(torch.equal(p, weights[n]) for n, p in resting.model.named_parameters())
    assert all(torch.equal(p, weights[n]) for n, p in resting.model.named_parameters())
    shared = {id(p) for part in vlm.vision_parts for p in part.parameters()}
    assert shared <= {id(p) for p in resting.model.parameters()}, "a frozen vision tower is not copied"
