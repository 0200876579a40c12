"""Compute features of every track: `spark-submit jobs/extract.py --tracks TRACKS.parquet --out DATASET`.

Takes what `genre-spark extract` takes; `--help` tells all.
"""

import sys

from genre_spark.cli import main

if __name__ == "__main__":
    main(["extract", *sys.argv[1:]])
