"""The tiny model that ships with the package: an ordinary Qwen2.5-VL of a few million parameters.

It plays who-is-the-spy on CLEVR-like pictures of 96x64 pixels in the compact wording. `checkpoint/` is
what `make` built with its default arguments; `checkpoint/report.md` says how good it is.
"""

from vision_zero.models.nano.warm_start import Plan, make

__all__ = ["Plan", "make"]
