"""A model behind an OpenAI-compatible endpoint, by a server that exists: vLLM on a GPU, else Transformers' own."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE
from transformers import AutoProcessor, AutoTokenizer

from vision_zero.errors import UserError
from vision_zero.evaluate.weights import Weights
from vision_zero.lifeline import end
from vision_zero.models import files
from vision_zero.models.base import FAMILIES, load

Server = Literal["auto", "vllm", "transformers"]
_PATIENCE = {"vllm": 1800.0, "transformers": 600.0}
"""Seconds that a server may take to load its model."""
_STOPPING = 20.0
_CHATML = "<|im_start|>assistant\n"


@contextmanager
def served(
    weights: Weights,
    name: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    server: Server = "auto",
    log: Path | None = None,
    dtype: str = "auto",
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server that knows the model by `name`, wait until it answers, and stop it in the end.

    With LoRA base and adapter are merged into a temporary folder first. Pictures are seen under the model's
    `max_pixels`, and weights are used as `dtype` ("auto": as they were saved). The server's words go to `log`, or where
    this process's do. Raises `UserError` if no server is installed, if a Hub id cannot be fetched, if the port is
    taken, or if the server ends before it answers.
    """
    chosen = choose(server)
    if "/" in name or not name:
        raise UserError(f"--name {name!r}: a name without slashes")
    with TemporaryDirectory(prefix="vision-zero-serve-") as temporary:
        home = Path(temporary)
        folder = weights.folder or _fetched(weights.model.path)
        if files.adapter_folder(str(folder)) is not None:
            load(weights.model).save(home / name, merged=True)
        else:
            _link(folder, home / name)
            if weights.model.max_pixels is not None:
                _limit_pixels(home / name, weights.model.max_pixels)
        _tell_template(home / name)
        _check_free(host, port)
        with log.open("wb") if log is not None else nullcontext() as words:
            process = subprocess.Popen(
                _command(chosen, home / name, name, host, port, dtype),
                cwd=home,
                env=_environment(home),
                stdout=words,
                stderr=None if words is None else subprocess.STDOUT,
            )
        try:
            _wait(process, f"http://{host}:{port}/health", _PATIENCE[chosen], chosen)
            yield process
        finally:
            end(process, _STOPPING)


def _fetched(name: str) -> Path:
    """The folder of a model of the Hub, in the Hub's cache."""
    try:
        return Path(snapshot_download(name))
    except (OSError, ValueError) as e:
        raise UserError(f"{name} is no folder, and cannot be fetched from the Hub ({str(e).splitlines()[0]})") from e


def _link(folder: Path, place: Path) -> None:
    """The model under another path: the servers call a model as its path is called, seen from where they run."""
    place.mkdir()
    for file in folder.iterdir():
        (place / file.name).symlink_to(file.resolve())


def _tell_template(place: Path) -> None:
    """Transformers' server cuts replies out of the text by a template, and takes that of ChatML for every model of
    Qwen's types. A model that speaks otherwise gets its own, or prompts would come back as part of the reply.
    """
    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    opening = _opening(tokenizer)
    if opening == _CHATML or tokenizer.eos_token is None or getattr(tokenizer, "response_template", None) is not None:
        return
    settings = place / "tokenizer_config.json"
    tree = json.loads(settings.read_text(encoding="utf-8"))
    content = {"close": tokenizer.eos_token, "content": "text"}
    tree["response_template"] = {
        "defaults": {"role": "assistant"},
        "start_anchor": opening,
        "fields": {"content": content},
    }
    # not through the link into the model's own folder
    settings.unlink()
    settings.write_text(json.dumps(tree, indent=2), encoding="utf-8")


def _limit_pixels(place: Path, max_pixels: int) -> None:
    """The processor as training had it: a base model's own files know nothing of the run's limit."""
    reader: Any = AutoProcessor
    processor = reader.from_pretrained(place, trust_remote_code=False)
    FAMILIES[files.model_type(str(place))].limit_pixels(processor, max_pixels)
    with TemporaryDirectory() as limited:
        processor.save_pretrained(limited)
        # newer files hold the image processor inside the processor's, and would be shadowed by older ones
        for name in ("processor_config.json", "preprocessor_config.json"):
            (place / name).unlink(missing_ok=True)
            if (Path(limited) / name).is_file():
                shutil.copyfile(Path(limited) / name, place / name)


def _opening(tokenizer: Any) -> str:
    """What the chat template writes before a reply."""
    chat = [{"role": "user", "content": "?"}]
    without, with_opening = (
        str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=add)) for add in (False, True)
    )
    return with_opening.removeprefix(without)


def choose(server: Server) -> Literal["vllm", "transformers"]:
    """The server that `server` stands for here. Raises `UserError` if it is not installed."""
    has_vllm = importlib.util.find_spec("vllm") is not None
    if server == "vllm" and not has_vllm:
        raise UserError("vLLM is not installed: pip install vllm, or say --server transformers")
    if server == "vllm" or (server == "auto" and has_vllm and torch.cuda.is_available()):
        return "vllm"
    missing = [m for m in ("fastapi", "uvicorn") if importlib.util.find_spec(m) is None]
    if missing:
        raise UserError(f"serving needs {' and '.join(missing)}: pip install 'vision-zero[serve]'")
    return "transformers"


def _command(server: str, model: Path, name: str, host: str, port: int, dtype: str) -> list[str]:
    # -P: the folder it runs in holds the model under any name, and must not be searched for modules
    python = [sys.executable, "-P", "-m"]
    rest = ["--host", host, "--port", str(port), "--dtype", dtype]
    if server == "vllm":
        return [
            *python,
            "vllm.entrypoints.openai.api_server",
            "--model",
            str(model),
            "--served-model-name",
            name,
            *rest,
        ]
    return [*python, "transformers.cli.transformers", "serve", name, *rest]


def _environment(home: Path) -> dict[str, str]:
    """Transformers' server answers GET /v1/models with an error if there is no cache folder to list."""
    environment = dict(os.environ)
    if not Path(HF_HUB_CACHE).is_dir():
        (home / "hub").mkdir()
        environment["HF_HUB_CACHE"] = str(home / "hub")
    return environment


def _check_free(host: str, port: int) -> None:
    """Else the wait for our server would end with the answer of another."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as e:
            raise UserError(f"cannot listen on {host}:{port} ({e.strerror}): choose another --port or --host") from e


def _wait(process: subprocess.Popen[bytes], health: str, patience: float, server: str) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"the {server} server ended with code {process.returncode} before it answered; see above")
        try:
            with urllib.request.urlopen(health, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.3)
    raise UserError(f"the {server} server did not answer within {patience:.0f} seconds")
