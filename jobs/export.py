"""Write a trained model for other programs: `python jobs/export.py RUN --format onnx --out model.onnx`.

Takes what `genre-spark export` takes; `--help` tells all. No Spark is needed.
"""

import sys

from genre_spark.cli import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
