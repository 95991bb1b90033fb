# `make` alone lists the targets. Most targets create the environment if it is missing.
PYTHON ?= python3
BIN = .venv/bin
READY = .venv/ready
PARALLEL = -n 2 --dist loadfile --no-loadscope-reorder
DATA ?= $(if $(EXPFW_DATA),$(EXPFW_DATA)/mnist)
DEMO = sweep model=mlp_keras dataset=digits train.epochs=20 model.units=16,64 model.optimizer.learning_rate=0.01,0.1

.PHONY: help demo test check lint fix docs bench browser clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(READY)  ## run a sweep of four trials on the digits of scikit-learn
	$(BIN)/expfw $(DEMO)
	@echo
	@echo "Compare the trials in MLflow:  $(BIN)/expfw ui"

test: $(READY)  ## run the fast tests in two processes
	$(BIN)/pytest -q $(PARALLEL) -m "not slow"

check: lint docs test  ## check everything: style, types, layers, docs, all tests, the installed wheel
	$(BIN)/pytest -q $(PARALLEL) -m "slow and not alone" --durations=40
	$(BIN)/pytest -q -m alone --durations=10

lint: $(READY)  ## check style, types, layers and generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/_generate/generate.py --check
	$(BIN)/python benchmarks/recipes --check

fix: $(READY)  ## fix style and regenerate docs
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python docs/_generate/generate.py

docs: $(READY)  ## build the documentation site in site/
	$(BIN)/zensical build --strict
	@echo "Open site/index.html, or serve it with search: $(BIN)/python -m http.server -b 127.0.0.1 -d site"

bench: $(READY)  ## measure start-up, training and memory for docs/reference/performance.md; DATA=FOLDER contains MNIST
	$(if $(wildcard $(DATA)),,$(error no folder '$(DATA)'; expected a folder with the four MNIST files: make bench DATA=FOLDER))
	$(BIN)/python benchmarks/engine/start_up.py --data $(DATA)
	$(BIN)/python benchmarks/engine/performance.py --data $(DATA)
	$(BIN)/python benchmarks/engine/memory.py --data $(DATA)

browser:  ## install Chromium, zsh and fish for the tests (Debian, as root or with sudo)
	.ci/browser

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@

clean:  ## remove the environment and build files, but not the runs
	rm -rf .venv build expfw.egg-info
