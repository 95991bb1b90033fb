# `make` alone lists the words. Most make the environment first, if it is not there.
PYTHON ?= python3
BIN = .venv/bin
READY = .venv/ready
DATA ?= $(if $(EXPFW_DATA),$(EXPFW_DATA)/mnist)
DEMO = sweep model=mlp_keras dataset=digits train.epochs=20 model.units=16,64 model.optimizer.learning_rate=0.01,0.1

.PHONY: help demo test check lint fix docs bench browser clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(READY)  ## a sweep of four trials on the digits that scikit-learn ships
	$(BIN)/expfw $(DEMO)
	@echo
	@echo "Compare the trials in MLflow:  $(BIN)/expfw ui"

test: $(READY)  ## the tests, in one process
	$(BIN)/pytest -q -m "not slow"

check: lint docs  ## everything: lint, types, layers, all tests, the installed wheel
	$(BIN)/pytest -q --durations=40

lint: $(READY)  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/_generate/generate.py --check

fix: $(READY)  ## mends what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python docs/_generate/generate.py

docs: $(READY)  ## the documentation as a site, in site/
	$(BIN)/zensical build --strict
	@echo "Read site/index.html, or with its search: $(BIN)/python -m http.server -b 127.0.0.1 -d site"

bench: $(READY)  ## start-up, training loops, memory: figures of docs/reference/performance.md; DATA=FOLDER has MNIST
	$(if $(wildcard $(DATA)),,$(error no folder '$(DATA)'; expected the four files of MNIST: make bench DATA=FOLDER))
	$(BIN)/python benchmarks/engine/start_up.py --data $(DATA)
	$(BIN)/python benchmarks/engine/performance.py --data $(DATA)
	$(BIN)/python benchmarks/engine/memory.py --data $(DATA)

browser:  ## Debian's Chromium, zsh and fish, for tests; as root, or by sudo
	.ci/browser

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@

clean:  ## removes the environment; runs stay
	rm -rf .venv build expfw.egg-info
