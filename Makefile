PYTHON ?= python3
INSTALLED := .venv/installed

.PHONY: search test slow install clean

# The first run builds .venv; later ones reuse it until the requirements change. Modules are compiled when first imported:
# most never are.
$(INSTALLED): pyproject.toml starter/pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ./starter --editable '.[starter,dev]'
	touch $(INSTALLED)

install: $(INSTALLED)

search: $(INSTALLED)
	.venv/bin/tunexfer search spaces/multitask.yaml

test: $(INSTALLED)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m pytest -q -n 2

# End-to-end runs of minutes: real searches, killed drivers, a real MLflow server. The longest file begins first.
slow: $(INSTALLED)
	.venv/bin/python -m pytest -q -m slow -n 2 --dist loadfile --no-loadscope-reorder \
		tests/search/test_stopped_searches.py tests

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
