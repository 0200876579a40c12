"""Probabilities to judgement: the Spark scoring job, metrics, figures and the report."""
