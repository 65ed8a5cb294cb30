# The commands of this repository; `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup run test lint format types imports check bench soak docs lock clean

VENV := .venv/bin
PYTEST_ARGS ?=
# Tests start real servers: more workers than cores only make them wait for one another.
PYTEST_WORKERS ?= auto

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: .venv from requirements.lock, nats-server
	@scripts/setup

run: setup ## start everything here and run the main job (demo music, or LOCAL_MEDIA_IMPORT_PATH=, FEEDS=)
	@exec $(VENV)/music-cloud run $(RUN_ARGS)

test: setup ## run all tests (PYTEST_ARGS="-k name" for some)
	@scripts/test-packages
	@$(VENV)/pytest -n $(PYTEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: setup ## style and format of the code
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .

format: setup ## mend style and format where that can be done by program
	@$(VENV)/ruff check --fix .
	@$(VENV)/ruff format .

types: setup ## types, strictly
	@$(VENV)/mypy libs services tests examples/catalog plugins

imports: setup ## who may import whom
	@$(VENV)/lint-imports

check: lint types imports test ## everything that must pass before a change goes in

bench: setup ## the benchmarks: ratios against peers on this machine (takes a while)
	@scripts/test-packages
	@$(VENV)/python -m bench

soak: setup ## random faults for SECONDS=3600, with ever new seeds
	@$(VENV)/python -m tests.support.chaos_soak $(or $(SECONDS),3600)

docs: setup ## write what is generated: music-cloud.env.example, docs/asyncapi.json, tables of the pages
	@for generator in scripts/generate-*; do $(VENV)/python "$$generator" || exit 1; done

lock: setup ## pin the newest versions of requirements.in, with hashes, into requirements.lock
	@scripts/lock

clean: ## remove what tools left here; data/ and .venv stay
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -not -path './.venv/*' -not -path './data/*' -prune -exec rm -rf {} +
