# Every target makes .venv first if it is missing or older than the pins.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DATA ?= installed# or huggingface (the paper's own data set), or a folder
# installed: .venv sees what PYTHON has, and its torch is the pin; cpu: the build without CUDA, which
# on Linux saves gigabytes; otherwise what pip takes for the pin. A torch that fits is left alone.
TORCH ?= $(if $(wildcard .venv/constraints.txt),installed)
CPU_WHEELS := https://download.pytorch.org/whl/cpu
# What the versions are pinned by; nothing (make PINS= ...): the newest that the ranges admit.
PINS ?= $(if $(filter installed,$(TORCH)),.venv/constraints.txt,constraints.txt)
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
NOTEBOOKS := $(sort $(wildcard notebooks/[0-9][0-9]_*.ipynb))
# Jupyter wants to be told that root, as in a container, is meant.
ROOTLY := $(if $(filter 0,$(shell id -u)),--allow-root)
# The kernel of the notebooks is the one of .venv, whatever else is registered for the user.
export JUPYTER_PREFER_ENV_PATH := 1
unexport PYTHONPATH

.DEFAULT_GOAL := help
.PHONY: help run lab test weekly check lint notebooks assignments progress bench soak paper pretrain studies students colab book clean

help: ## show the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1#\2/p' Makefile | column -t -s '#'

.venv/.stamp: pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "compgpt needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is %d.%d: make PYTHON=python3.11" % v)'
	@echo "installing into .venv (a few minutes the first time)"
	@rm -f .venv/.stamp
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv .venv --clear $(if $(filter installed,$(TORCH)),--system-site-packages)
	$(if $(filter installed,$(TORCH)),@{ grep -v '^torch==' constraints.txt; $(BIN)/python -c 'import torch; print(f"torch=={torch.__version__}")'; } > .venv/pins && mv .venv/pins .venv/constraints.txt || { echo "$(PYTHON) has no torch that .venv can use: rm -r .venv and name a Python that has one (make run TORCH=installed PYTHON=/path/of/python) or leave TORCH out"; exit 1; })
	$(if $(filter cpu,$(TORCH)),@$(PIP) --no-deps --index-url $(CPU_WHEELS) $(if $(PINS),$$(grep '^torch==' constraints.txt),torch))
	@$(PIP) $(if $(PINS),-c $(PINS)) -e '.[lab,data,course,cluster,transfer,book,test]'
	@touch .venv/.stamp

run: .venv/.stamp ## build the corpus, train the four models, run every chapter, print the table
	@$(BIN)/python tools/chapters.py run

lab: .venv/.stamp ## open JupyterLab at chapter 00, in your own copy of the chapters (work/)
	@$(BIN)/python tools/chapters.py work
	@COMPGPT_HOME="$$($(BIN)/python -c 'from compgpt_lib.support.files import home; print(home())')" \
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m jupyterlab $(ROOTLY) --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/work/00_start_here.ipynb

lint: .venv/.stamp ## style, types, floors, spelling
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/codespell
	@$(BIN)/oxlint --deny-warnings compgpt_lib/widgets tools/website

check: lint ## lint and unit tests, for every edit (about 5 minutes)
	@$(BIN)/python -m pytest -q -n 2 -m 'not slow' tests

# Two workers, and one thread in each of their kernels: half as long again for two threads each.
# The longest files first; no chapter stands before one that trains what it needs, as 08 does.
LONG := $(foreach number,07 03 05 06 00 04 08 09 12 11 10,$(wildcard notebooks/$(number)_*.ipynb))
SLOW := tests/browser tests/assignments tests/test_colab.py tests/notebooks tests/fast tests/support tests/teaching tests/widgets

# What other tests try in another way, or what changes with the world and not with the kit.
WHICH ?= slow and not weekly
weekly: WHICH = slow
weekly: test ## test, and what is tried once a week: Colab's versions, chapters 08 to 12 as learners have them

test: check ## check, the stored outputs of the notebooks, slow tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --nbval --nbval-cell-timeout=1200 $(LONG) $(filter-out $(LONG),$(NOTEBOOKS))
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "$(WHICH)" $(SLOW) $(wildcard tests/test_*.py)

notebooks: .venv/.stamp ## run every chapter anew and save it with its outputs
	@$(BIN)/python tools/chapters.py save

assignments: .venv/.stamp ## check and release the assignments; with SUBMISSIONS=folder grade them
	@$(BIN)/python tools/assignments.py $(if $(SUBMISSIONS),grade "$(SUBMISSIONS)" $(if $(DUE),--due "$(DUE)") $(if $(FEEDBACK),--feedback $(FEEDBACK)),release)

progress: .venv/.stamp ## with ANSWERS=folder: which exercises each student has right (runs/progress.csv)
	@$(BIN)/python tools/progress.py $(if $(ANSWERS),"$(ANSWERS)")

bench: .venv/.stamp ## measure every claim of speed, write the tables of both READMEs (ten minutes)
	@$(BIN)/python benchmarks/bench.py --write
	@$(BIN)/python benchmarks/scaling.py --write

soak: .venv/.stamp ## two hours of training, 10,000 generations, 500 kills
	@$(BIN)/python benchmarks/soak.py --write
	@COMPGPT_KILLS=500 $(BIN)/python -m pytest -q tests/test_kill.py

paper: .venv/.stamp ## every chapter at the paper's size (on a GPU)
	@$(BIN)/python tools/chapters.py run --preset paper --data "$(DATA)" --out runs/paper

pretrain: .venv/.stamp ## train the models that the kit ships, and write data/pretrained (two hours)
	@$(BIN)/python tools/pretrain.py train
	@$(BIN)/python tools/pretrain.py ship

studies: .venv/.stamp ## run the trainings of all studies, and write data/studies (hours)
	@for name in rates comparison healing variant_rates branches narrow recall tokens texts transfer context sizes; do $(BIN)/compgpt study $$name --folder data/studies || exit 1; done

students: .venv/.stamp ## build dist/compgpt-students.zip, the kit without the solutions and tests of the assignments
	@$(BIN)/python tools/students.py

colab: .venv/.stamp ## build dist/compgpt-colab.zip: wheel and notebooks, for Colab
	@$(BIN)/python tools/colab.py

book: .venv/.stamp ## build dist/book, a website of the chapters, and check its links
	@$(BIN)/python tools/book.py

clean: ## remove what was built: .venv, runs, corpora, caches (not work/, which is yours)
	rm -rf .venv runs data/corpora dist build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
