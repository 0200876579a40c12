"""A standalone Spark cluster on this machine: a master and workers in processes of their own, as on many machines.

    python -m genre_spark.cluster up      # says where the master is and how to submit
    python -m genre_spark.cluster down    # ends every process of it
    python -m genre_spark.cluster history # shows the event logs that its jobs kept

All that belongs to it lies in one folder: `submit/` (a SPARK_CONF_DIR for drivers, with the cluster's secret, for the
owner alone), `daemons/` (one for master and workers), logs, the workers' folders, `events/`, and `cluster.json`. Ports
are those that the system gives.
"""

from genre_spark.cluster.daemons import Cluster, Process, processes_of, read_cluster, stop_cluster
from genre_spark.cluster.standalone import serve_history, start_cluster, start_worker

__all__ = [
    "Cluster",
    "Process",
    "processes_of",
    "read_cluster",
    "serve_history",
    "start_cluster",
    "start_worker",
    "stop_cluster",
]
