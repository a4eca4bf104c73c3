# The three commands of this project. Each makes .venv and installs what it needs when that is missing.

PYTHON ?= python3
VENV := .venv
# further words for pytest, such as SELECT="tests/test_cli.py -x"
SELECT ?=
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-dicom test-viewer test-ray test-slurm lint notebooks docs docs-serve monailabel help clean

help:
	@echo "make demo       the whole way on the embedded cohort, two to four minutes, which it tells beforehand"
	@echo "make test       the test suite"
	@echo "make test-dicom DICOM results against dciodvfy, dicom-validator, Orthanc and Cornerstone3D; installs Debian's dicom3tools, orthanc, orthanc-dicomweb"
	@echo "make test-viewer the viewer in Chromium, which must be installed"
	@echo "make test-ray   the engine of Ray on a cluster of this machine"
	@echo "make test-slurm  the engine slurm on a Slurm of this machine, which is installed (Debian, as root) and ended afterwards"
	@echo "make lint       style, types, layers, spelling"
	@echo "make notebooks  write and execute the notebooks again from their scripts"
	@echo "make docs       the documentation as a site in build/site"
	@echo "make docs-serve the same, shown on http://127.0.0.1:8001"
	@echo "make monailabel MONAI Label, in an environment of its own, serves bundles"

demo: $(VENV)/.demo
	$(BIN)/unet-pipeline demo --out demo

test: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal $(SELECT)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

test-viewer: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 2 --dist worksteal -m browser tests/viewer

# dicom-standard for its tables alone (tests/dicom_standard_tables.py); the newest ones dicom-validator fetches when it first runs, or skips
test-dicom: $(VENV)/.test
	command -v dciodvfy || apt-get install --yes dicom3tools || sudo apt-get install --yes dicom3tools
	test -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so || apt-get install --yes orthanc orthanc-dicomweb || sudo apt-get install --yes orthanc orthanc-dicomweb
	$(BIN)/python -m pip install --quiet -c constraints.txt dicom-validator
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps dicom-standard
	-command -v npm && npm install --prefix tests/cornerstone --no-package-lock --no-audit --no-fund --silent && npm run --prefix tests/cornerstone --silent build
	$(BIN)/python -m pytest -m dicom_tools tests/test_clinical_*.py tests/bundles/test_dicomweb.py tests/bundles/test_dicom_training.py

test-slurm: $(VENV)/.test
	$(BIN)/python tests/slurm_cluster.py $(BIN)/python -m pytest -m slurm tests/test_cohort_slurm_engine.py $(SELECT)

monailabel: $(VENV)/.test
	$(BIN)/python -m pytest -m monai_label tests/bundles/test_monai_label.py tests/bundles/test_loading.py

test-ray: $(VENV)/.test $(VENV)/.ray
	$(BIN)/python -m pytest -m ray tests/test_cohort_ray_engine.py

notebooks: $(VENV)/.test
	$(BIN)/python notebooks/build.py

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -q -W --keep-going -c docs . build/site
	@echo "open build/site/index.html, or run make docs-serve"

docs-serve: docs
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site 8001

# torch first and alone: the pinned version must be settled before another package asks for one
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"

$(VENV)/.%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[$*]"
	@touch $@

clean:
	rm -rf $(VENV) build/site tests/.monai_label demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache *.egg-info
