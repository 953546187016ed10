# Two commands do everything on a bare machine: `make demo` and `make test`. `make test-vllm` tests vLLM, in an
# environment of its own.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
# Debian packages venv apart from Python.
APT := $(if $(filter 0,$(shell id -u)),,sudo )apt-get
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM := false

.PHONY: install demo bench test soak test-harness test-vllm lint types unit clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(APT) install -y python3-venv || { echo "this Python has no venv module: install the package python3-venv" >&2; exit 1; }
	@[ -e $(BIN)/ruff ] || $(PYTHON) -c 'import os, shutil, sys, tempfile; together = os.stat(".").st_dev == os.stat(tempfile.gettempdir()).st_dev; sys.exit(shutil.disk_usage(".").free < (10e9 if together else 7e9))' || { echo "$(VENV) takes 7 GB of disk, and 3 GB more stand in TMPDIR or /tmp while it is installed: make room first (df -h . /tmp)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: install
	$(BIN)/vision-zero train recipes/nano.yaml

bench: install
	for name in play update step scale memory sync; do $(BIN)/python -m benchmarks.$$name || exit 1; done

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

unit: install
	$(BIN)/pytest -n 2

test: lint types unit

$(VLLM)/.installed: constraints-vllm.txt tests/vllm/torchvision_on_cpu.py
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check --no-deps -r constraints-vllm.txt
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	site=$$($(VLLM)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	cp tests/vllm/torchvision_on_cpu.py $$site && echo 'import torchvision_on_cpu' > $$site/torchvision_on_cpu.pth
	@touch $@

test-vllm: $(VLLM)/.installed
	$(VLLM)/bin/python -m pytest -n 2 --dist loadfile tests/vllm --show-capture=no

# VLMEvalKit and lmms-eval in environments of their own: 5 GB, and minutes.
HARNESS := .venv-harness
test-harness: export VISION_ZERO_HARNESS := $(CURDIR)/$(HARNESS)
test-harness: install
	@for tool in vlmevalkit lmms-eval; do $(BIN)/vision-zero harness list $$tool >/dev/null 2>&1 \
		|| $(BIN)/vision-zero harness install $$tool || exit 1; done
	$(BIN)/pytest tests/evaluate/check_harness.py

# goes on where it was stopped; prints one table
soak: install
	$(BIN)/python -m tests.soak

clean:
	rm -rf $(VENV) $(VLLM) $(HARNESS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
