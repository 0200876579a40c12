"""Predict the genres of a library: `spark-submit jobs/predict.py --tracks TABLE --bundle RUN/bundle --out DIR`.

Takes what `genre-spark predict-library` takes; `--help` tells all.
"""

import sys

from genre_spark.cli import main

if __name__ == "__main__":
    main(["predict-library", *sys.argv[1:]])
