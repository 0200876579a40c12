"""Fit the scalers of a dataset: `spark-submit jobs/fit_scaler.py --dataset DATASET --split SCHEME --out DIR`.

Takes what `genre-spark fit-scaler` takes; `--help` tells all.
"""

import sys

from genre_spark.cli import main

if __name__ == "__main__":
    main(["fit-scaler", *sys.argv[1:]])
