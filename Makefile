# Two commands do all: `make demo` and `make test`. Each makes the environment first.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: demo test slow lint clean

demo: $(VENV)/.installed
	$(RUN) distill_dataset.py --config=configs/quickstart.py --workdir=runs/quickstart
	$(RUN) eval.py --distilled=runs/quickstart
	@echo "pictures: runs/quickstart/images/latest.png and curves.png"

test: $(VENV)/.installed
	$(RUN) -m pytest

slow: $(VENV)/.installed
	$(RUN) -m pytest -m slow

lint: $(VENV)/.installed
	$(VENV)/bin/ruff format --check . && $(VENV)/bin/ruff check . && $(VENV)/bin/pyright --pythonpath $(RUN)

$(VENV)/.installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q --upgrade pip
	$(RUN) -m pip install -q -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) runs/quickstart
