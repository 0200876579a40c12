# Sourced by spark-submit and its kin when SPARK_CONF_DIR is this folder. Finds the Python that pyspark is installed in,
# and a Java where neither JAVA_HOME nor the PATH has one (see genre_spark/spark.py).
if [ -x "$SPARK_HOME/../../../../bin/python" ]; then
  # SPARK_HOME of an installed pyspark is <prefix>/lib/pythonX.Y/site-packages/pyspark
  installed_python="$(cd "$SPARK_HOME/../../../../bin" && pwd)/python"
else
  installed_python="${PYSPARK_DRIVER_PYTHON:-python3}"
fi
if [ -z "$PYSPARK_PYTHON" ]; then
  PYSPARK_PYTHON="$installed_python"
elif [ -z "$PYSPARK_DRIVER_PYTHON" ] && ! command -v "$PYSPARK_PYTHON" > /dev/null; then
  # That of the workers alone: ./environment/bin/python is there only where an archive was unpacked.
  PYSPARK_DRIVER_PYTHON="$installed_python"
fi
JAVA_HOME="$("$installed_python" -m genre_spark.spark)" || exit 1
