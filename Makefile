# To begin with: make app, make test. Each installs what it needs the first time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8501

.PHONY: app install test check bench stress audit

app: $(VENV)/.app $(VENV)/.engine
	$(BIN)/streamlit run streamlit_app.py --server.port $(PORT)

# For a server whose units start the program: what the app needs, and nothing is started.
install: $(VENV)/.app

# Files of tests side by side, each with a processor of its own: torch would take all for each. One
# process more than there are processors: tests of pages, listeners and runs wait half of their time.
# In the order of the names: those of the browser are few and long, and come first and not last.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile \
		--no-loadscope-reorder

stress: $(VENV)/.dev
	$(BIN)/python -m pytest -m stress

bench: $(VENV)/.dev
	$(BIN)/python -m bench

# Keys and tokens by the form that their issuers give them, and words in quotes that are called secret.
SECRETS := AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|xox[abprs]-[0-9A-Za-z-]{10}|-----BEGIN [A-Z ]*PRIVATE KEY
SECRETS := $(SECRETS)|AIza[0-9A-Za-z_-]{35}|sk-[A-Za-z0-9]{32}|hf_[A-Za-z0-9]{34}
SECRETS := $(SECRETS)|(password|passwd|secret|token|api_?key)["]? *[:=] *["][^" ]{12,}

# --strict: a package that could not be looked up is an error, not a clean one.
# OSV_URL: a mirror of the OSV query service, where the public one is out of reach.
audit: $(VENV)/.dev
	! git log --all -p -- . ':!*.safetensors' | grep -iE '^[+].*($(SECRETS))'
	$(BIN)/pip-licenses --from=mixed --order=license
	$(BIN)/pip-audit --strict --progress-spinner off $(if $(OSV_URL),-s osv --osv-url $(OSV_URL))

check: $(VENV)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

$(VENV)/.app: requirements.txt | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

# The networks are converted for this processor, half a minute once a release; the app would also run without.
$(VENV)/.engine: weights/manifest.json $(VENV)/.app
	$(BIN)/python -m core batch --engine-info || true
	touch $@

$(VENV)/.dev: requirements-dev.txt requirements-train.txt requirements-simulate.txt $(VENV)/.app
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)
