# Every target is a command of make.py, which needs nothing but Python 3.11 or newer.
PYTHON ?= python3
COMMANDS := setup book lab test run sync everywhere student doctor lint format hooks

help:
	@$(PYTHON) make.py

# make run CHAPTERS="01 02" re-executes those two
$(COMMANDS):
	@$(PYTHON) make.py $@ $(CHAPTERS)

.PHONY: help $(COMMANDS)
