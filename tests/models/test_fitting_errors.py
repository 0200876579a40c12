"""What a back end makes of an error, and what is told of it."""

import re

import pytest

from genre_spark.errors import GenreSparkError, RunError
from genre_spark.models.fitting_errors import errors_of


class BackEndError(Exception):
    pass


def test_a_full_disk_that_was_named_gets_no_second_advice() -> None:
    named = "r/state.npz: can't be written: No space left on device; mend that and go on with --resume"
    with pytest.raises(RunError, match=f"^{re.escape(named)}$"), errors_of():
        raise RunError(named)


def test_a_full_disk_in_a_back_ends_words_is_named_in_one_short_line() -> None:
    with pytest.raises(GenreSparkError) as refusal, errors_of():
        raise BackEndError(
            "{{function_node}}\n tensorboard/x.v2; No space left on device\n" + "[Op:FlushSummaryWriter] " * 50
        )
    assert str(refusal.value).startswith("the run's disk is full: {{function_node}} tensorboard/x.v2; No space left")
    assert str(refusal.value).endswith("; free some of it and --resume")
    assert len(str(refusal.value)) < 300


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(BackEndError, match="other"), errors_of():
        raise BackEndError("other")
