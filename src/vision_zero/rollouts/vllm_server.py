"""vLLM servers on other devices: requests over HTTP, weights over files that trainer and servers both see.

Only vLLM's own endpoints are used: tokens in, tokens out (`/inference/v1/generate`) for requests, and those of its
development mode for weights. Each answer says by which weights it was drawn, so that a server that was restarted
behind our back is noticed and given the newest weights before it is asked again.
"""

from __future__ import annotations

import asyncio
import base64
import io
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from vision_zero.config import RunConfig
from vision_zero.errors import UserError
from vision_zero.models.base import VLM
from vision_zero.rollouts import vllm_common as common
from vision_zero.rollouts.engine import Completion, Request
from vision_zero.types import Picture

BASE = "policy"
"""What the servers call the model without adapters."""
CONNECTING = 10.0
"""Seconds in which a server must take a connection."""
LONGEST_WAIT = 30.0
"""Most seconds between two tries."""


class ServerTrouble(Exception):
    """A server that did not answer as it should; worth another try."""


class VllmServerEngine:
    """Samples with vLLM servers, with the weights of `vlm`.

    `folder`: where weights are put for the servers, one place for all processes. `main`: this process brings them
    over; `wait`: returns when all processes have called it. Raises `UserError` if servers do not answer, however
    often they are asked, or if they have other weights, another model, or other settings than the trainer.
    """

    def __init__(
        self,
        vlm: VLM,
        config: RunConfig,
        folder: Path,
        main: bool = True,
        wait: Callable[[], None] = lambda: None,
    ) -> None:
        self._vlm, self._config, self._folder = vlm, config, folder.resolve()
        self._main, self._wait = main, wait
        self._urls = [url.rstrip("/") for url in config.rollouts.vllm.urls]
        self._tally = common.Tally()
        self._fixed = common.fixed_requests(vlm, config)
        self._changed = True
        self._version = 0
        self._weights = self._place()

    @contextmanager
    def fixed_weights(self) -> Iterator[None]:
        """Inside, all servers have the newest weights: brought over and checked on entering, if they changed."""
        if self._changed:
            began = time.monotonic()
            old, self._version = self._weights, self._version + 1
            self._weights = self._place()
            if self._main:
                self._write()
                self._persist("take new weights", lambda url: self._bring(url, old))
                shutil.rmtree(old, ignore_errors=True)  # there is none at first
            self._wait()
            self._tally.add(weights_difference=max(self._require_equal_weights(url) for url in self._urls))
            self._tally.add(seconds_weights=time.monotonic() - began)
            self._changed = False
        yield

    def weights_changed(self) -> None:
        """Bring them over before the next play."""
        self._changed = True

    def figures(self) -> Mapping[str, float]:
        """Share of prompt tokens that were cached, seconds spent on weights, difference on the fixed prompt (of
        the server where it is largest), tries that failed."""
        return {"failed_tries": 0.0} | dict(self._tally.take())

    def close(self) -> None:
        """The servers go on; the files of the weights are removed."""
        if self._main:
            shutil.rmtree(self._weights, ignore_errors=True)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion per request, in order, by the newest weights that were brought over. Raises `UserError`."""
        return self._generate(requests, frozen=False)

    def base(self) -> common.WithoutAdapter:
        """The engine of the frozen start: the same servers without the adapter. LoRA only."""
        return common.WithoutAdapter(self._vlm, lambda requests: self._generate(requests, frozen=True))

    # Requests

    def _generate(self, requests: Sequence[Request], frozen: bool) -> list[Completion]:
        common.check_all(self._vlm, requests, self._config)
        urls = {p.sha: _data_url(p) for p in {p.sha: p for r in requests for p in r.pictures}.values()}
        bodies = [self._body(r, urls, frozen) for r in requests]
        done: dict[int, Completion] = {}
        tries = self._config.rollouts.vllm.retries + 1
        troubles: dict[str, str] = {}
        for attempt in range(tries):
            if attempt:
                time.sleep(min(2.0**attempt, LONGEST_WAIT))
                self._revive(troubles)
            healthy = [url for url in self._urls if url not in troubles]
            left = {i: healthy[i % len(healthy)] for i in range(len(requests)) if i not in done and healthy}
            answers = asyncio.run(self._ask({i: (url, bodies[i]) for i, url in left.items()}))
            for i, answer in answers.items():
                if isinstance(answer, ServerTrouble) or not self._is_new(answer, frozen):
                    troubles[left[i]] = str(answer) if isinstance(answer, ServerTrouble) else "it has other weights"
                else:
                    done[i] = self._completion(requests[i], answer)
            if len(done) == len(requests):
                return [done[i] for i in range(len(requests))]
            self._tally.add(failed_tries=1)
        raise self._given_up("answer", troubles)

    def _body(self, request: Request, urls: Mapping[str, str], frozen: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._weights.name if self._vlm.adapted and not frozen else BASE,
            "token_ids": common.collapsed(self._vlm, request),
            "sampling_params": common.sampling(self._vlm, request),
            "return_token_ids": True,
        }
        if request.pictures:
            body["content_parts"] = [{"type": "image_url", "url": urls[p.sha], "uuid": p.sha} for p in request.pictures]
        return body

    async def _ask(self, bodies: Mapping[int, tuple[str, dict[str, Any]]]) -> dict[int, dict[str, Any] | ServerTrouble]:
        """An answer, or what went wrong, for each. Those that nothing comes of for too long are given up together."""
        patience, most = self._config.rollouts.vllm.timeout, self._config.rollouts.batch_size
        timeout = httpx.Timeout(None, connect=CONNECTING)
        places = asyncio.Semaphore(most)
        async with httpx.AsyncClient(timeout=timeout, limits=httpx.Limits(max_connections=most), trust_env=False) as c:

            async def one(url: str, body: dict[str, Any]) -> dict[str, Any] | ServerTrouble:
                async with places:
                    try:
                        return _checked(url, await c.post(f"{url}/inference/v1/generate", json=body))
                    except httpx.TransportError as e:
                        return ServerTrouble(f"{type(e).__name__} {e}".strip())
                    except ServerTrouble as e:
                        return e

            tasks = {asyncio.create_task(one(*bodies[i])): i for i in bodies}
            out: dict[int, dict[str, Any] | ServerTrouble] = {}
            pending = set(tasks)
            while pending:
                finished, pending = await asyncio.wait(pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                out |= {tasks[task]: task.result() for task in finished}
                if not finished:
                    for task in pending:
                        task.cancel()
                    out |= {tasks[task]: ServerTrouble(f"no answer for {patience:.0f} seconds") for task in pending}
                    break
            return out

    def _is_new(self, answer: Mapping[str, Any], frozen: bool) -> bool:
        """Whether it was drawn by the weights that were brought over last."""
        if self._vlm.adapted:
            return bool(answer["model"] == (BASE if frozen else self._weights.name))
        spans = answer["choices"][0]["weight_versions"]
        return bool(spans) and all(span["version"] == str(self._weights) for span in spans)

    def _completion(self, request: Request, answer: Mapping[str, Any]) -> Completion:
        [drawn] = answer["choices"]
        logprobs = [at["logprob"] for at in drawn["logprobs"]["content"]]
        done = common.completion(self._vlm, request, answer["prompt_token_ids"], drawn["token_ids"], logprobs)
        cached = (answer["usage"].get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        self._tally.add(prompt_tokens=answer["usage"]["prompt_tokens"], cached_tokens=cached)
        return done

    # Weights

    def _place(self) -> Path:
        return self._folder / f"weights-{self._version:06d}"

    def _write(self) -> None:
        self._weights.mkdir(parents=True, exist_ok=True)
        if self._vlm.adapted:
            self._vlm.save(self._weights)
        else:
            common.write_weights(self._vlm, self._weights)

    def _bring(self, url: str, old: Path | None = None) -> None:
        """Have one server read the newest weights and forget all that it computed with others."""
        if self._vlm.adapted:
            new = {"lora_name": self._weights.name, "lora_path": str(self._weights), "load_inplace": True}
            if old is not None and self._version > 1:
                self._post(url, "v1/unload_lora_adapter", {"lora_name": old.name})
            self._post(url, "v1/load_lora_adapter", new)
            self._post(url, "reset_prefix_cache")
            return
        self._post(url, "pause?mode=wait")
        place = {"weights_path": str(self._weights)}
        self._post(url, "collective_rpc", {"method": "reload_weights", "kwargs": place})
        for cache in ("mm", "encoder", "prefix"):
            self._post(url, f"reset_{cache}_cache")
        self._post(url, "update_weight_version", {"new_version": str(self._weights)})
        self._post(url, "resume")

    def _require_equal_weights(self, url: str) -> float:
        bodies = {
            i: (url, self._body(r, {p.sha: _data_url(p) for p in r.pictures}, frozen=False))
            for i, r in enumerate(self._fixed)
        }
        done = []
        for i, answer in sorted(asyncio.run(self._ask(bodies)).items()):
            if isinstance(answer, ServerTrouble):
                raise self._given_up("answer the fixed prompt", {url: str(answer)})
            done.append(self._completion(self._fixed[i], answer))
        try:
            return common.require_equal_weights(self._vlm, self._fixed, done, self._config)
        except UserError as e:
            raise UserError(f"{url}: {e}") from e

    # Trouble

    def _revive(self, troubles: dict[str, str]) -> None:
        """Give the servers that were in trouble the newest weights again: they may have been started anew. Those
        that take them are taken out of `troubles`."""
        for url in list(troubles):
            try:
                self._bring(url)
                self._require_equal_weights(url)
            except ServerTrouble as e:
                troubles[url] = str(e)
            else:
                del troubles[url]

    def _persist(self, what: str, act: Callable[[str], None]) -> None:
        """Do something with every server, several times where it fails."""
        left = dict.fromkeys(self._urls, "")
        for attempt in range(self._config.rollouts.vllm.retries + 1):
            if attempt:
                self._tally.add(failed_tries=1)
                time.sleep(min(2.0**attempt, LONGEST_WAIT))
            for url in list(left):
                try:
                    act(url)
                except ServerTrouble as e:
                    left[url] = str(e)
                else:
                    del left[url]
            if not left:
                return
        raise self._given_up(what, left)

    def _given_up(self, what: str, troubles: Mapping[str, str]) -> UserError:
        tries = self._config.rollouts.vllm.retries + 1
        told = "; ".join(f"{url}: {trouble}" for url, trouble in troubles.items())
        return UserError(
            f"vLLM did not {what} in {tries} tries ({told}). Start the server again (`vision-zero rollout-server "
            "RECIPE`), then the run: it resumes from its last checkpoint"
        )

    def _post(self, url: str, path: str, body: Mapping[str, Any] | None = None) -> None:
        try:
            timeout = httpx.Timeout(self._config.rollouts.vllm.timeout, connect=CONNECTING)
            _checked(url, httpx.post(f"{url}/{path}", json=body, timeout=timeout, trust_env=False))
        except httpx.TransportError as e:
            raise ServerTrouble(f"{type(e).__name__} {e}".strip()) from e


def _checked(url: str, response: httpx.Response) -> dict[str, Any]:
    """The answer's JSON, {} if it has none. Raises `ServerTrouble` for what may pass, `UserError` for what will not."""
    # 404: an adapter that a server has lost with its process
    if response.status_code >= 500 or response.status_code in (404, 429):
        raise ServerTrouble(f"{response.status_code} {response.text[:300]}")
    if response.status_code >= 400:
        raise UserError(
            f"{url} refuses {response.request.url.path} with {response.status_code}: {response.text[:300]}. "
            "Start the server with `vision-zero rollout-server RECIPE`"
        )
    found = response.headers.get("content-type", "").startswith("application/json")
    answer: dict[str, Any] = response.json() if found else {}
    return answer


def _data_url(picture: Picture) -> str:
    """The picture as we read it, without transparency or rotation flags that a server might read otherwise."""
    data = io.BytesIO()
    common.rgb(picture).save(data, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode("ascii")
