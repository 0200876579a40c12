"""Train a model: `spark-submit jobs/train.py --dataset DATASET --model dnn --run RUN`.

Takes what `genre-spark train` takes; `--help` tells all.
"""

import sys

from genre_spark.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
