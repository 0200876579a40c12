"""Which tracks exist: one loader per corpus, each yields the same track table, and the ways to split it."""
