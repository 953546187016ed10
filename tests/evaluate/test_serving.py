"""The tiny model behind a real server, asked through the ordinary client."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import openai
import pytest
import torch

from vision_zero.config import LoraConfig, ModelConfig, load_config
from vision_zero.errors import UserError
from vision_zero.evaluate.serving import served
from vision_zero.evaluate.weights import find_weights
from vision_zero.models.base import load
from vision_zero.pairs import open_pairs
from vision_zero.rollouts.engine import Request
from vision_zero.rollouts.hf import HfEngine
from vision_zero.types import Message, PicturePart, TextPart

RECIPE = Path(__file__).parents[2] / "recipes" / "nano.yaml"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


PICTURE = open_pairs(load_config(RECIPE).pairs, 0, "held_out")[0].original
QUESTIONS = ("a red cube ?\n", "a small metal sphere ?\n", "what is here ?\n")


def our_answers(model: ModelConfig) -> list[str]:
    """Greedy replies of the engine that plays games."""
    vlm = load(model, "cpu")
    prompts = [vlm.encode((Message("user", (PicturePart(PICTURE), TextPart(q))),)) for q in QUESTIONS]
    done = HfEngine(vlm, 8).generate([Request(p, (PICTURE,), 0, 40, 0.0) for p in prompts])
    return [vlm.decode(c.ids) for c in done]


def ask(client: openai.OpenAI, model: str, question: str) -> str:
    picture = f"data:image/png;base64,{base64.b64encode(PICTURE.data).decode()}"
    content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": question}]
    reply = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": content}],  # type: ignore[list-item]
        max_tokens=40,
        temperature=0,
    )
    return (reply.choices[0].message.content or "").strip()


@pytest.mark.slow
def test_a_checkpoint_answers_about_a_picture_and_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    port = free_port()
    with served(find_weights("nano"), "tiny", port=port, server="transformers") as process:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
        assert [ask(client, "tiny", question) for question in QUESTIONS] == our_answers(ModelConfig(path="nano"))
        assert client.models.list().object == "list"
        with pytest.raises(UserError, match="cannot listen"), served(find_weights("nano"), "two", port=port):
            raise AssertionError("two servers on one port")
    assert process.returncode is not None
    assert not listens(port)


@pytest.mark.slow
@pytest.mark.parametrize("answering", [False, True])
def test_sigterm_ends_the_server_and_removes_what_was_temporary(answering: bool, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "vision_zero.cli", "serve", "nano", "--server", "transformers"]
    with subprocess.Popen(
        [*command, "--port", str(port)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 120
        while not (listens(port) if answering else list(tmp_path.glob("vision-zero-serve-*"))):
            assert process.poll() is None
            assert time.monotonic() < deadline, "the server does not get on"
            time.sleep(0.1)
        process.terminate()
        assert process.wait(60) == 143
    assert not listens(port)
    assert not list(tmp_path.glob("vision-zero-serve-*"))


@pytest.mark.slow
def test_an_adapter_is_served_merged_with_its_base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config = ModelConfig(path="nano", lora=LoraConfig(rank=4))
    vlm = load(config, "cpu")
    for name, parameter in vlm.trainable():
        if "lora_B" in name:
            draws = torch.Generator().manual_seed(parameter.numel())
            parameter.data = 0.05 * torch.randn(parameter.shape, generator=draws)
    vlm.save(tmp_path / "adapter")
    weights, port = find_weights(str(tmp_path / "adapter")), free_port()
    assert weights.model.lora == config.lora
    expected = our_answers(weights.model)
    assert expected != our_answers(ModelConfig(path="nano"))
    with served(weights, "adapted", port=port, server="transformers", dtype="float32"):
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
        assert [ask(client, "adapted", question) for question in QUESTIONS] == expected


def test_what_cannot_be_served_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="without slashes"), served(find_weights("nano"), "a/b"):
        raise AssertionError("served")
    with pytest.raises(UserError, match="cannot be fetched from the Hub"), served(find_weights("no/such-model"), "a"):
        raise AssertionError("served")
    with pytest.raises(UserError, match="vLLM is not installed"), served(find_weights("nano"), "a", server="vllm"):
        raise AssertionError("served")
