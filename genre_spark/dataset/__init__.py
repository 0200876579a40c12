"""Arrays at rest and in motion: the Spark extraction job, the Parquet layout, the scaler and the feed for Keras."""
