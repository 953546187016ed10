"""Lets PyPI's torchvision, which is built for CUDA, be imported beside the CPU build of torch that vLLM brings.

Its compiled half cannot load there, and its Python half stops at once for want of two operators' names. They are
declared just before torchvision is imported. What the image processors of models use is Python; the operators
themselves stay missing, and calling one raises. `make test-vllm` puts this file and a .pth that imports it into
its environment, so that every process of vLLM has it.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any


class _BeforeTorchvision(MetaPathFinder):
    library: Any = None
    """Kept alive: operators are forgotten with the library that declared them."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Declares the operators when torchvision is first asked for; finds nothing itself."""
        if name != "torchvision" or self.library is not None:
            return
        import torch

        if torch.version.cuda is None:
            self.library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                self.library.define(operator + "(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")


sys.meta_path.insert(0, _BeforeTorchvision())
