"""From a music library to features, genre models and an honest confusion matrix.

Six rooms in the order in which the data flows: `corpora` (which tracks exist), `features` (audio to arrays),
`dataset` (arrays at rest and in motion), `models` (arrays to probabilities), `evaluation` (probabilities to judgement),
`experiments` (many judgements to one table). A room imports only rooms that stand before it. `serving`, a local page,
and `cli` stand beside them and use them.
"""

__version__ = "0.1.0"
