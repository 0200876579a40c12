import re

import pytest

from genre_spark.features import STUDY_SPECS
from genre_spark.features.spec import Segments
from genre_spark.models.bundle import BundleDescription
from genre_spark.models.model_card import MEANINGS, SPLITS, model_card

SPEC = STUDY_SPECS["melgram"]


def description(**more: object) -> BundleDescription:
    content = {
        "format_version": 2, "architecture": "cnn2d", "spec": SPEC, "spec_digest": SPEC.digest,
        "labels": ["Hip-Hop", "Rock"], "split_digest": "5" * 16, "versions": {"genre_spark": "0.1.0"},
    }  # fmt: skip
    return BundleDescription.model_validate(content | more)


def test_a_card_tells_what_the_model_reads_and_says() -> None:
    card = model_card(description())
    assert card.startswith("# Model card: `cnn2d`\n")
    assert (
        "feature `melgram` (`mel_spectrogram`), a float32 tensor of shape 96 x 1366, from audio at 12,000 Hz." in card
    )
    assert "in this order: `Hip-Hop`, `Rock`." in card
    assert SPEC.digest in card


def test_what_is_not_known_is_said_to_be_not_recorded() -> None:
    card = model_card(description())
    for line in (
        "- Corpus: not recorded",
        "- Tracks: not recorded",
        "- Split: not recorded",
        "- Settings: not recorded",
    ):
        assert line in card
    assert "Not measured when this card was written" in card
    assert "Nothing is recorded about the rights to the music." in card
    assert "None" not in card
    assert not re.search(r"[{}]", card.replace("print(answer)", ""))


def test_what_is_known_stands_there() -> None:
    card = model_card(
        description(
            split="study", group_by="artist", tracks={"training": 5_600, "validation": 2_400},
            metrics={"val_accuracy": 0.51239, "n": 24_000, "home_made": 2.5}, corpus="FMA small",
            licence="CC BY-NC 4.0",
            settings={"epochs": 30, "balanced": True}, created="2026-11-22T10:00:00+00:00",
        )
    )  # fmt: skip
    assert "Tracks: 5,600 training, 2,400 validation" in card
    assert f"Split: `study`, {SPLITS['study']} (kept together by artist); its digest is `5555555555555555`" in card
    assert f"| `val_accuracy` | 0.5124 | {MEANINGS['val_accuracy']} |" in card
    assert f"| `n` | 24,000 | {MEANINGS['n']} |" in card
    assert "| `home_made` | 2.5 |  |" in card
    assert "Settings: epochs 30, balanced True" in card
    assert "CC BY-NC 4.0" in card
    assert "2026-11-22T10:00:00+00:00" in card


def test_numbers_of_an_evaluation_take_the_place_of_the_training_s() -> None:
    card = model_card(description(metrics={"val_accuracy": 0.5}), {"accuracy": 0.25})
    assert "`accuracy` | 0.25 |" in card
    assert "val_accuracy" not in card


def test_segments_are_told() -> None:
    spec = SPEC.model_copy(update={"segments": Segments(count=6, length_s=5)})
    assert "each of 6 segments of 5 s is judged" in model_card(description(spec=spec))


@pytest.mark.parametrize("evil", ["a`b", "a|b", "a\n# b", "<script>", "{labels}", "[x](y)"])
def test_a_text_can_not_break_the_card(evil: str) -> None:
    card = model_card(description(labels=[evil, "Rock"], corpus=evil, licence=evil, metrics={evil: 1.0}))
    assert card.count("\n# ") == 0
    assert "\n<" not in card
    plain = model_card(description(metrics={"x": 1.0}, licence="x"))
    assert card.count("\n") == plain.count("\n")
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert all(line.count("|") == 4 for line in rows)


def test_a_calibrated_model_tells_its_temperature_and_when_it_is_not_sure() -> None:
    calibration = {
        "temperature": 1.618, "n": 1_240, "ece_before": 0.2104, "ece_after": 0.031,
        "thresholds": [{"precision": 0.9, "threshold": 0.71234, "coverage": 0.4}],
    }  # fmt: skip
    card = model_card(description(calibration=calibration))
    assert "softmax(log p / 1.618)" in card
    assert "fitted on 1,240 validation tracks" in card
    assert "from 21.0% to 3.1%" in card
    assert "| 0.9 | 0.712 | 40.0% |" in card
    assert "not calibrated" not in card


def test_a_model_that_is_not_calibrated_says_so() -> None:
    assert "not calibrated." in model_card(description())
    none = {"temperature": 1.0, "n": 7, "ece_before": 0.2, "ece_after": 0.2}
    card = model_card(description(calibration=none))
    assert "not calibrated: 7 validation tracks told of no better ones" in card
    assert "It always names a genre" in card


def test_every_split_of_the_program_has_its_line() -> None:
    from typing import get_args

    from genre_spark.corpora.splits import Scheme

    assert set(SPLITS) == set(get_args(Scheme))
