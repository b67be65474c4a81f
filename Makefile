# The whole life of the checkout. Every target sets up what it needs, once; `make setup` alone is never required.

PYTHON ?= python3
# -I: nothing of the user's environment, and no module of llmux/ in the place of one of Python's own.
BOOTSTRAP := $(PYTHON) -I llmux/bootstrap.py
VENV := .venv/bin
# --no-cache: locking would make uv forget the llama.cpp that it built.
LOCK := ../$(VENV)/uv pip compile --quiet --no-cache --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-header --annotation-style line --no-emit-index-url

# Where it is set, LiteLLM compiles its thousands of modules anew at every start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup models demo serve test test-ui test-openwebui bench lint lock

help:  ## print this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

setup:  ## make .venv: pinned packages, and llama.cpp built for this machine
	@$(BOOTSTRAP)

models: setup
	@$(VENV)/python -m demo.models

demo: setup  ## speak, transcribe and chat on three small models, then serve them; ONCE=1 stops after the round trip
	@$(VENV)/python -m demo $(if $(ONCE),--once) $(ARGS)

serve: setup  ## serve the models of litellm_config.yaml on 127.0.0.1:8081
	@$(VENV)/python -m llmux serve --config litellm_config.yaml

test: models  ## run the tests; ARGS="-k word" goes to pytest
	@$(VENV)/python -m tests.clients.opencode
	@$(VENV)/python -m pytest $(ARGS)

test-ui: models  ## drive the admin UI in Chromium, which root gets installed; ARGS="--screenshots docs/images" for pictures
	@tests/system-packages chromium
	@$(VENV)/python -m pytest tests/ui -m ui $(ARGS)

test-openwebui: models  ## drive the real Open WebUI, by its API and in Chromium (2.3 GB in the cache folder); ARGS as for test-ui
	@tests/system-packages chromium ffmpeg
	@$(VENV)/python -m tests.clients.open_webui
	@$(VENV)/python -m pytest tests/clients -m openwebui $(ARGS)

bench: models  ## measure: NAME=vram-sim ARGS="--events 50000"; without NAME, list what can be asked
	@$(VENV)/python -m bench $(NAME) $(ARGS)

lint: setup  ## ruff and mypy --strict
	@$(VENV)/ruff check
	@$(VENV)/ruff format --check
	@$(VENV)/mypy

lock: setup  ## pin the newest versions that requirements/*.in allow
	@cd requirements && for name in uv build; do $(LOCK) $$name.in -o $$name.txt; done
	@cd requirements && for name in torch llama speech; do $(LOCK) $$name.in -o $$name.txt --no-deps; done
	@cd requirements && $(LOCK) runtime.in -o runtime.txt --excludes excluded.in --no-emit-package llama-cpp-python
	@cd requirements && $(LOCK) torch.in -o cuda.txt -c runtime.txt --no-emit-package torch
	@cd requirements && $(LOCK) dev.in -o dev.txt -c runtime.txt
	@cd tests/clients/pypi && for name in *.in; do [ $$name = excluded.in ] || \
		../../$(LOCK) $$name -o $${name%.in}.txt --excludes excluded.in; done
