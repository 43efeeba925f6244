# Every target is a command of make.py, which needs nothing but Python 3.11 or newer.
PYTHON ?= python3
COMMANDS := setup book lab work reset test run sync everywhere student teach lite progress doctor lint format hooks

help:
	@$(PYTHON) make.py

# make run CHAPTERS="01 02" re-executes those two; make lab ARGS=--no-browser hands options on.
# A PYTHON that was named, and is another than .venv's, rebuilds .venv.
$(COMMANDS):
	@$(PYTHON) make.py $(if $(filter file,$(origin PYTHON)),,--rebuild) $@ $(CHAPTERS) $(ARGS)

.PHONY: help $(COMMANDS)
