"""Score a run, or a model on another dataset: `spark-submit jobs/evaluate.py --run RUN`.

Takes what `genre-spark evaluate` takes; `--help` tells all.
"""

import sys

from genre_spark.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
