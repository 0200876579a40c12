"""Arrays to probabilities: architectures, training, the bundle on disk and prediction."""
