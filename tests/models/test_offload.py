"""A frozen copy that rests off the device and comes when it is used."""

from __future__ import annotations

import torch

from tests.tiny_models import load_tiny
from vision_zero.models.offload import Offload


def test_a_resting_reference_is_the_reference() -> None:
    vlm = load_tiny("qwen2_5_vl", train="language")
    here, resting = vlm.reference(), vlm.reference(offload=True)
    weights = dict(here.model.named_parameters())
    with resting.present():
        assert all(torch.equal(p, weights[n]) for n, p in resting.model.named_parameters())
    assert all(torch.equal(p, weights[n]) for n, p in resting.model.named_parameters())
    shared = {id(p) for part in vlm.vision_parts for p in part.parameters()}
    assert shared <= {id(p) for p in resting.model.parameters()}, "a frozen vision tower is not copied"


def test_weights_are_on_the_device_inside_and_unchanged_at_rest_outside() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).requires_grad_(False)
    stays = model[1]
    expected = {n: t.clone() for n, t in model.state_dict().items()}
    offload = Offload(model, [stays])
    offload._device = torch.device("meta")  # the only other device that every machine has; it holds no values
    with offload.present():
        assert {t.device.type for t in model[0].parameters()} == {"meta"}
        assert {t.device.type for t in stays.state_dict().values()} == {"cpu"}
    assert all(torch.equal(t, expected[n]) for n, t in model.state_dict().items())
