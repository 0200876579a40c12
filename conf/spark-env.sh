# Sourced by spark-submit and its kin when SPARK_CONF_DIR is this folder. Finds the Python that pyspark is installed in,
# and a Java where neither JAVA_HOME nor the PATH has one (see genre_spark/spark.py).
if [ -z "$PYSPARK_PYTHON" ]; then
  # SPARK_HOME of an installed pyspark is <prefix>/lib/pythonX.Y/site-packages/pyspark
  if [ -x "$SPARK_HOME/../../../../bin/python" ]; then
    PYSPARK_PYTHON="$(cd "$SPARK_HOME/../../../../bin" && pwd)/python"
  else
    PYSPARK_PYTHON=python3
  fi
fi
JAVA_HOME="$("$PYSPARK_PYTHON" -m genre_spark.spark)" || exit 1
