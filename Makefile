# Every stage is a target; the variables below say on what. `make` lists the targets.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first Python that fits; `make PYTHON=/path/to/python3.11 setup` names another.
PYTHON ?= $(shell for python in python3 python3.12 python3.11; do \
	if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; \
	then echo $$python; break; fi; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUN_STAGE := $(BIN)/genre-spark
RUN_CLUSTER := $(BIN)/python -m genre_spark.cluster
SPARK_CONF := conf/spark-env.sh conf/spark-defaults.conf conf/log4j2.properties

# What the stages work on: `make extract TRACKS=my/tracks.parquet DATASET=my/dataset`
WORK ?= build/work
CONFIG ?= --config conf/base.yaml --config conf/local.yaml
CORPUS ?= synthetic
ROOT ?= $(WORK)/corpus
TRACKS ?= $(WORK)/tracks.parquet
AUDIT ?= $(WORK)/audit
FEATURES ?= mfcc_mean,mfcc,melgram
DATASET ?= $(WORK)/dataset
MODEL ?= dnn
SPLIT ?= artist
RUN ?= $(WORK)/runs/$(MODEL)-$(SPLIT)
SCALERS ?= $(WORK)/scalers/$(SPLIT)
FORMAT ?= onnx
EXPORT ?= $(WORK)/exports/$(MODEL)-$(SPLIT).$(FORMAT)
REPORT ?= $(WORK)/report.html
PREDICTIONS ?= $(WORK)/predictions
FILES ?=
ARGS ?=

##@ Start here

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' \
		$(MAKEFILE_LIST)

.PHONY: demo
demo: build/demo/evaluated ## From nothing to a report in one command: build/demo/report.html
	@$(RUN_STAGE) report $(DEMO_RUNS:%=--run build/demo/runs/%) --out build/demo/report.html \
		--note "The clips of this demo were composed by a program: its accuracies show that the pipeline works, and say nothing about music."

.PHONY: test
# Where a test kills its process, pytest-xdist 3.8 with --dist loadfile starts another and then waits for ever.
test: $(READY) ## Run the tests, in as many processes as there are cores (the slow ones: make test-slow)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --max-worker-restart 0 $(ARGS)

.PHONY: setup
setup: $(READY) ## Build .venv from the lock file; needs Python 3.11 or 3.12 and nothing else

##@ Stages (variables: WORK ROOT TRACKS AUDIT FEATURES DATASET MODEL SPLIT SCALERS RUN FORMAT EXPORT REPORT PREDICTIONS CONFIG ARGS)

.PHONY: corpus validate leaks extract fit-scaler train export evaluate report predict predict-library serve
corpus: $(READY) ## Make a track table (CORPUS=fma|gtzan|folder|synthetic ROOT=...)
	$(RUN_STAGE) corpus $(CORPUS) --root "$(ROOT)" --out "$(TRACKS)" $(CONFIG) $(ARGS)

validate: $(READY) ## Read every file of TRACKS, with Spark: what is broken, silent, there twice (AUDIT)
	$(RUN_STAGE) corpus validate --tracks "$(TRACKS)" --out "$(AUDIT)" $(CONFIG) $(ARGS)

leaks: $(READY) ## Tell who stands on both sides of SPLIT
	$(RUN_STAGE) corpus leaks --tracks "$(TRACKS)" --split $(SPLIT) $(CONFIG) $(ARGS)

extract: $(READY) ## Compute the FEATURES of all TRACKS into DATASET, with Spark
	$(RUN_STAGE) extract --tracks "$(TRACKS)" --features $(FEATURES) --out "$(DATASET)" $(CONFIG) $(ARGS)

fit-scaler: $(READY) ## Mean and variance of SPLIT's training part of DATASET, with Spark, into SCALERS (training does it, too)
	$(RUN_STAGE) fit-scaler --dataset "$(DATASET)" --split $(SPLIT) --out "$(SCALERS)" $(CONFIG) $(ARGS)

train: $(READY) ## Train MODEL on DATASET under SPLIT into RUN
	$(RUN_STAGE) train --dataset "$(DATASET)" --model $(MODEL) --split $(SPLIT) --run "$(RUN)" $(CONFIG) $(ARGS)

export: $(READY) ## Write the model of RUN for other programs (FORMAT=keras|savedmodel|onnx) to EXPORT
	$(RUN_STAGE) export "$(RUN)" --format $(FORMAT) --out "$(EXPORT)" $(ARGS)

evaluate: $(READY) ## Score RUN: predictions, metrics, confusion matrix, with Spark
	$(RUN_STAGE) evaluate --run "$(RUN)" $(CONFIG) $(ARGS)

report: $(READY) ## Write REPORT over RUN (more with ARGS="--run OTHER")
	$(RUN_STAGE) report --run "$(RUN)" --out "$(REPORT)" $(CONFIG) $(ARGS)

predict: $(READY) ## Predict the genre of FILES with the model of RUN
	$(RUN_STAGE) predict --bundle "$(RUN)/bundle" $(CONFIG) $(ARGS) $(FILES)

predict-library: $(READY) ## Predict all TRACKS with the model of RUN into PREDICTIONS, with Spark
	$(RUN_STAGE) predict-library --tracks "$(TRACKS)" --bundle "$(RUN)/bundle" --out "$(PREDICTIONS)" $(CONFIG) $(ARGS)

serve: $(READY) ## A page on this machine: drop a song on it, see what the model of RUN makes of it (docs/serve.md)
	$(RUN_STAGE) serve --bundle "$(RUN)/bundle" $(CONFIG) $(ARGS)

##@ Experiments (variables: EXPERIMENT DATASETS RESULTS EMOTIFY FMA CONFIG ARGS)

EXPERIMENT ?= conf/experiments/ours.yaml
DATASETS ?= $(DATASET)
RESULTS ?= $(WORK)/experiments/$(basename $(notdir $(EXPERIMENT)))
EMOTIFY ?= ../shared/data/emotify
FMA ?= build/fma/corpus
EMOTIFY_CONFIG := --config conf/base.yaml --config conf/local.yaml --config conf/emotify.yaml

.PHONY: experiment
experiment: $(READY) ## Train and compare what EXPERIMENT names on DATASETS; what is finished is kept (docs/models.md)
	$(RUN_STAGE) experiment "$(EXPERIMENT)" $(DATASETS:%=--dataset "%") --out "$(RESULTS)" $(CONFIG) $(ARGS)

.PHONY: model-emotify
model-emotify: $(READY) ## Train linear518 on all clips of EMOTIFY: build/emotify/model/bundle
	$(RUN_STAGE) corpus folder --root "$(EMOTIFY)" --table "$(EMOTIFY)/tracks.csv" --out build/emotify/tracks.parquet
	$(RUN_STAGE) extract --tracks build/emotify/tracks.parquet --features fma_518 --out build/emotify/segments $(EMOTIFY_CONFIG)
	$(RUN_STAGE) train --dataset build/emotify/segments --model linear518 --split all --run build/emotify/model --overwrite $(EMOTIFY_CONFIG)

.PHONY: experiment-emotify
experiment-emotify: model-emotify ## What to expect of that model on other artists, and what others reach (half an hour)
	$(RUN_STAGE) extract --tracks build/emotify/tracks.parquet --features mfcc_mean,mfcc,melgram,fma_518_clip --out build/emotify/clips $(EMOTIFY_CONFIG)
	$(RUN_STAGE) experiment conf/experiments/emotify.yaml --dataset build/emotify/segments --dataset build/emotify/clips \
		--out build/emotify/experiment $(EMOTIFY_CONFIG) $(ARGS)

.PHONY: reproduce-fma
reproduce-fma: build/fma/found.parquet ## FMA-small from the download to the tables: the study's models and ours (FMA: folder of the corpus)
	$(MAKE) fma-experiments TRACKS=$< WORK=build/fma

build/fma/found.parquet: | $(READY)
	$(RUN_STAGE) corpus fma --root "$(FMA)" --download --out $@

.PHONY: fma-experiments
fma-experiments: $(WORK)/experiments/clean.parquet ## The same for TRACKS that are there, in WORK/experiments: validate, extract, train, compare, report
	$(RUN_STAGE) extract --tracks "$<" --features mfcc_mean,mfcc,melgram,fma_518 --out "$(<D)/dataset" $(CONFIG)
	$(RUN_STAGE) experiment conf/experiments/study.yaml --dataset "$(<D)/dataset" --out "$(<D)/study" $(CONFIG) $(ARGS)
	$(RUN_STAGE) experiment conf/experiments/disjoint.yaml --dataset "$(<D)/dataset" --out "$(<D)/disjoint" $(CONFIG) $(ARGS)
	$(RUN_STAGE) experiment conf/experiments/ours.yaml --dataset "$(<D)/dataset" --out "$(<D)/ours" $(CONFIG) $(ARGS)
	$(RUN_STAGE) report --out "$(WORK)/report.html" $(foreach model,dnn cnn1d cnn2d,--run "$(WORK)/experiments/study/runs/$(model)-study-seed0" \
		--run "$(WORK)/experiments/disjoint/runs/$(model)-artist-seed0") $(foreach model,linear518 cnn_time,--run "$(WORK)/experiments/ours/runs/$(model)-artist-seed0")

$(WORK)/experiments/clean.parquet: $(TRACKS) | $(READY)
	$(RUN_STAGE) corpus validate --tracks "$<" --out "$(@D)/audit" --overwrite --clean "$@" $(CONFIG)

##@ Cluster (variables: CLUSTER EVENTS DIST_EXTRAS DIST_PYTHON ARGS)

CLUSTER ?= build/cluster
EVENTS ?= $(CLUSTER)/events
DIST_EXTRAS ?= features,mkl,spark
# Of MKL, what the Fourier transform never loads.
DIST_LEFT_OUT := $(foreach part,mkl_blacs* mkl_cdft* mkl_gf_* mkl_gnu* mkl_ilp64* mkl_intel_ilp64* mkl_pgi* mkl_scalapack* mkl_tbb* mkl_vml_cmpt* omptarget* tcm* tbb.so* tbbbind* umf* ur_*,--exclude '*/lib/lib$(part)')
DIST_PYTHON ?=
VENV_PACK ?= $(BIN)/venv-pack

.PHONY: cluster-up cluster-down history-server
cluster-up: $(READY) ## Start a master and two workers on this machine, and say how to submit (docs/cluster.md)
	@$(RUN_CLUSTER) up --folder "$(CLUSTER)" $(ARGS)

cluster-down: $(READY) ## End all that belongs to that cluster
	@$(RUN_CLUSTER) down --folder "$(CLUSTER)"

history-server: $(READY) ## Show what the jobs did whose event logs stand in EVENTS, until Ctrl-C
	@$(RUN_CLUSTER) history --events "$(EVENTS)" $(ARGS)

.PHONY: dist
dist: $(READY) ## Build what spark-submit ships: dist/*.whl, dist/genre_spark.zip, dist/environment.tar.gz
	@mkdir -p build && rm -rf dist build/lib build/bdist.* build/environment
	$(BIN)/python -m build --wheel --no-isolation --outdir dist . > build/dist.log || { cat build/dist.log >&2; exit 1; }
	@# PySpark puts a .zip on the path of its workers, and no .whl.
	cp dist/genre_spark-*.whl dist/genre_spark.zip
	$(BIN)/python -m venv build/environment
	@# The versions of the lock file: the same as the driver's.
	@sed -n 's/^\([a-z0-9][^ ]*==.*[^ ]\) *\\$$/\1/p' requirements/lock.txt > build/environment/constraints.txt
	build/environment/bin/python -m pip install --quiet --disable-pip-version-check --constraint build/environment/constraints.txt \
		"$$(ls dist/*.whl)[$(DIST_EXTRAS)]"
	@# Spark itself is the cluster's own.
	$(VENV_PACK) --quiet --force --prefix build/environment --output dist/environment.tar.gz $(DIST_PYTHON:%=--python-prefix %) \
		--exclude '*/site-packages/pyspark/*' --exclude '*/site-packages/pip/*' $(DIST_LEFT_OUT)
	@chmod 644 dist/environment.tar.gz
	@ls -lh dist

.PHONY: test-cluster
test-cluster: $(READY) ## Tests on a real cluster: workers killed, disks full, wires cut (some minutes)
	$(BIN)/python -m pytest -m cluster tests/cluster $(ARGS)

##@ Development

.PHONY: lint
lint: $(READY) ## Ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: format
format: $(READY) ## Let ruff format and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: docs
docs: $(READY) ## Build the documentation, offline, warnings are errors: build/docs/html/index.html
	$(BIN)/python -m sphinx -q -W --keep-going -d build/docs/doctrees docs build/docs/html $(ARGS)
	@echo "documentation -> build/docs/html/index.html"

.PHONY: test-slow
test-slow: $(READY) ## The slow tests: real music end to end
	$(BIN)/python -m pytest -m slow --timeout 1800 $(ARGS)

.PHONY: notebooks
notebooks: build/demo/evaluated ## Run the notebooks on the demo's data: build/notebooks/, as HTML too
	@mkdir -p build/notebooks
	$(BIN)/jupyter-execute --output '../build/notebooks/{notebook_name}' notebooks/*.ipynb
	$(BIN)/python -m nbconvert --log-level WARN --to html build/notebooks/*.ipynb
	@ls -lh build/notebooks

.PHONY: bench-features
bench-features: $(READY) ## Time the extractor beside plain librosa and decoding alone
	$(BIN)/python benchmarks/features.py $(ARGS)

.PHONY: bench-peers
bench-peers: build/peers/.ready ## Time the extractor beside other libraries, in an environment of their own
	build/peers/bin/python benchmarks/peers.py $(ARGS)

build/peers/.ready: benchmarks/requirements-peers.txt
	$(PYTHON) -m venv --clear build/peers
	build/peers/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[features,mkl,spark]' -r $<
	@touch $@

.PHONY: fuzz-audio
fuzz-audio: $(READY) ## Feed the decoder ten thousand damaged files
	$(BIN)/python benchmarks/fuzz_audio.py $(ARGS)

.PHONY: bench-extract
bench-extract: $(READY) ## Time the Spark extraction beside the bare extractor on as many cores
	$(BIN)/python benchmarks/extract.py $(ARGS)

.PHONY: bench-spark-ways
bench-spark-ways: $(READY) ## Time other ways to let Spark write features beside ours
	$(BIN)/python benchmarks/spark_ways.py $(ARGS)

.PHONY: bench-scaling
bench-scaling: $(READY) ## Time it on 1, 2, 4 cores; weigh it with a million tracks; count its requests (docs/scale.md)
	$(BIN)/python benchmarks/scaling.py $(ARGS)

.PHONY: bench-feed
bench-feed: $(READY) ## Time what feeds Keras: ours, petastorm as it comes, TFRecord, pyarrow, memory
	$(BIN)/python benchmarks/feed.py $(ARGS)

.PHONY: bench-evaluate
bench-evaluate: $(READY) ## Time the Spark evaluation beside model.predict in one process
	$(BIN)/python benchmarks/evaluate.py $(ARGS)

.PHONY: bench-gpu
bench-gpu: $(READY) ## Time an epoch of each model, and what the device waits for (on a GPU; smaller with ARGS elsewhere)
	KERAS_BACKEND=jax $(BIN)/python benchmarks/gpu.py $(ARGS)

.PHONY: bench-synthetic
bench-synthetic: $(READY) ## Time the composer of the synthetic corpus beside MP3 encoding alone
	$(BIN)/python benchmarks/synthetic.py $(ARGS)

.PHONY: lock
lock: ## Resolve setup.py's ranges anew into requirements/lock.txt (needs uv)
	uv pip compile setup.py --extra dev --universal --python-version 3.11 --generate-hashes --upgrade --quiet \
		--no-header --no-emit-index-url --no-emit-find-links --output-file requirements/lock.txt

.PHONY: clean
clean: ## End the cluster of cluster-up; remove all of build/ and the caches, not .venv
	@test ! -e "$(CLUSTER)" || $(RUN_CLUSTER) down --folder "$(CLUSTER)"
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(READY): requirements/lock.txt setup.py
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 found; name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lock.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@# Sessions and spark-submit of this environment find their properties, a quiet log and a Java there.
	conf="$$($(BIN)/python -c 'import importlib.util as u; print(u.find_spec("pyspark").submodule_search_locations[0])')/conf" && \
		mkdir -p "$$conf" && ln -sf $(SPARK_CONF:%="$(CURDIR)/%") "$$conf"
	@touch $@

# The demo. Each file is made when it is missing or older than what it is made from, so a rerun does only what is left.
DEMO_CONFIG := --config conf/base.yaml --config conf/demo.yaml
DEMO_RUNS := dnn cnn1d cnn2d dnn-random

build/demo/tracks.parquet: conf/demo.yaml | $(READY)
	$(RUN_STAGE) corpus synthetic --root build/demo/corpus --out $@ $(DEMO_CONFIG)

build/demo/dataset/extraction.json: build/demo/tracks.parquet
	$(RUN_STAGE) extract --tracks $< --features mfcc_mean,mfcc,melgram --out build/demo/dataset --overwrite $(DEMO_CONFIG)

# The same model under the study's random split, which lets it know the artists: the report shows what that is worth.
build/demo/runs/dnn-random/run.json: build/demo/dataset/extraction.json
	$(RUN_STAGE) train --dataset build/demo/dataset --model dnn --split study --run build/demo/runs/dnn-random --overwrite $(DEMO_CONFIG)

build/demo/runs/%/run.json: build/demo/dataset/extraction.json
	$(RUN_STAGE) train --dataset build/demo/dataset --model $* --split artist --run build/demo/runs/$* --overwrite $(DEMO_CONFIG)

build/demo/evaluated: $(DEMO_RUNS:%=build/demo/runs/%/run.json)
	$(RUN_STAGE) evaluate $(DEMO_RUNS:%=--run build/demo/runs/%) $(DEMO_CONFIG)
	@touch $@
