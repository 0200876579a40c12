"""A trained model's card: what it is, what it was trained on, how good it is, and what it isn't for."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genre_spark.models.bundle import BundleDescription

# What each number of `BundleDescription.metrics` means; one without a line here stands under its name alone.
MEANINGS: Mapping[str, str] = {
    "accuracy": "share of the tracks, or segments, of its part that get the right genre",
    "accuracy_low": "lower end of the accuracy's 95 % interval (Wilson)",
    "accuracy_high": "upper end of the accuracy's 95 % interval (Wilson)",
    "chance": "accuracy of guessing",
    "loss": "cross-entropy on the training part, regularisation included",
    "macro_f1": "mean over the genres of the F1 score",
    "n": "tracks behind the accuracy",
    "training_accuracy": "share of the training part that was right in the last epoch",
    "val_accuracy": "share of the validation part that was right, with these weights",
    "val_loss": "cross-entropy on the validation part",
}
SPLITS: Mapping[str, str] = {
    "study": "tracks at random, 70/30 into training and validation; tracks of an artist may stand in both, and the "
    "numbers are too good for it",
    "official": "the corpus's own",
    "artist": "by artist: no artist stands in two parts",
    "artist-kfold": "by artist, in folds: no artist stands in two parts",
    "all": "everything is training, and nothing was left to judge or calibrate it on",
}
_UNKNOWN = "not recorded"

_CARD = """# Model card: {architecture}

A model that gives one of {n_labels} genres to a music track, made by genre_spark {version}{created}.

## What it reads and says

- Input: feature {feature} ({kind}), a float32 tensor of shape {shape}, from audio at {sample_rate} Hz{segments}.
  Its specification stands in `bundle.json`; its digest is {spec_digest}. The standardisation is part of the model.
- Output: a probability for each genre, in this order: {labels}.

## What it was trained on

- Corpus: {corpus}
- Tracks: {tracks}
- Split: {split}; its digest is {split_digest}
- Settings: {settings}
- Versions: {versions}

## How good it is

{metrics}

## When it isn't sure

{thresholds}

## Limits

- It knows the genres above and no other: music of another kind gets one of them, with whatever confidence.
- A genre is a label that people gave to the tracks of this corpus. Other corpora draw the lines elsewhere; expect less
  on them than the numbers above.
- {calibration}
- Features must come from the same specification; `genre-spark predict` sees to it.

## Licence

{licence}

## How to load it

```python
from pathlib import Path

from genre_spark.models.bundle import load_bundle
from genre_spark.models.predict import predict_files

bundle = load_bundle(Path("BUNDLE"))
for answer in predict_files(bundle, ["clip.mp3"]):
    print(answer)
```

On the command line: `genre-spark predict --bundle BUNDLE clip.mp3`, and `genre-spark export BUNDLE --format onnx --out
model.onnx` for other programs. Loading runs no code from the bundle.
"""


def model_card(description: "BundleDescription", metrics: Mapping[str, float] | None = None) -> str:
    """Write the card of a trained model, in Markdown.

    Parameters
    ----------
    description : BundleDescription
        What it doesn't know is said to be not recorded.
    metrics : mapping of str to float, optional
        Numbers to show instead of the description's.
    """
    spec = description.spec
    shown = description.metrics if metrics is None else metrics
    segments = spec.segments
    return _CARD.format(
        architecture=_code(description.architecture),
        n_labels=len(description.labels),
        version=_plain(description.versions.get("genre_spark", "")) or f"({_UNKNOWN})",
        created=f", {_plain(description.created)}" if description.created else "",
        feature=_code(spec.name),
        kind=_code(spec.kind),
        shape=" x ".join(map(str, spec.shape)),
        sample_rate=f"{spec.sample_rate:,}",
        segments=f"; each of {segments.count} segments of {segments.length_s:g} s is judged, and the mean counts"
        if segments
        else "",
        spec_digest=_code(description.spec_digest),
        labels=", ".join(map(_code, description.labels)),
        corpus=_plain(description.corpus) or _UNKNOWN,
        tracks=", ".join(f"{count:,} {_plain(part)}" for part, count in description.tracks.items()) or _UNKNOWN,
        split=_split(description),
        split_digest=_code(description.split_digest),
        settings=_pairs(description.settings),
        versions=_pairs(description.versions),
        metrics=_metrics(shown),
        calibration=_calibration(description),
        thresholds=_thresholds(description),
        licence=_plain(description.licence)
        or "Nothing is recorded about the rights to the music. They are its holders', not this program's to give: see "
        "to the corpus's licence before you hand the model on.",
    )


def _split(description: "BundleDescription") -> str:
    if not description.split:
        return _UNKNOWN
    text = f"{_code(description.split)}, {SPLITS.get(description.split, 'a split of its own')}"
    return text + (f" (kept together by {_plain(description.group_by)})" if description.group_by else "")


def _metrics(metrics: Mapping[str, float]) -> str:
    if not metrics:
        return "Not measured when this card was written; `genre-spark evaluate` does it."
    rows = [f"| {_code(name)} | {_number(value)} | {MEANINGS.get(name, '')} |" for name, value in metrics.items()]
    return "\n".join(["| metric | value | what it means |", "| --- | ---: | --- |", *rows])


def _calibration(description: "BundleDescription") -> str:
    found = description.calibration
    if found is None or found.temperature == 1.0:
        few = f": {found.n:,} validation tracks told of no better ones" if found else ""
        return f"The probabilities are the softmax of a network, not calibrated{few}."
    return (
        f"The probabilities are calibrated, softmax(log p / {found.temperature:.4g}) of the network's own p; that was "
        f"fitted on {found.n:,} validation tracks and took their expected calibration error from "
        f"{found.ece_before:.1%} to {found.ece_after:.1%}. They hold for music like these tracks. An exported model "
        "gives the network's own p."
    )


def _thresholds(description: "BundleDescription") -> str:
    found = description.calibration
    if found is None or not found.thresholds:
        return "It always names a genre: no threshold below which it would say that it isn't sure is known."
    rows = [
        f"| {threshold.precision:g} | {threshold.threshold:.3f} | {threshold.coverage:.1%} |"
        for threshold in found.thresholds
    ]
    return "\n".join(
        [
            '`genre-spark predict --precision P` answers "not sure" where the largest probability is below the '
            "threshold. Of the other answers a share of P was right on the validation tracks. The threshold was chosen "
            "on them: expect a little less on others.",
            "",
            "| precision | threshold | share of the validation tracks answered |",
            "| ---: | ---: | ---: |",
            *rows,
        ]
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{_plain(name)} {_plain(str(value))}" for name, value in values.items()) or _UNKNOWN


def _plain(text: str) -> str:
    """One line of a text in which Markdown sees no markup."""
    return "".join(f"\\{character}" if character in r"\`*[]<>#|" else character for character in " ".join(text.split()))


def _code(text: str) -> str:
    """A name in backticks, as far as it can be; a bar would end a table's cell."""
    return f"`{' '.join(text.split()).replace('`', chr(39)).replace('|', '/')}`"
