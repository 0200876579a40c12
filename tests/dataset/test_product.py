import pytest

from genre_spark.dataset.product import Features
from genre_spark.errors import DatasetError
from genre_spark.features.spec import build_spec


@pytest.mark.parametrize("name", ["audio_bytes", "audio_modified", "audio_hash", "shortened_s"])
def test_a_feature_named_like_a_column_of_every_dataset_is_refused_before_a_job_starts(name: str) -> None:
    spec = build_spec(name, {"kind": "rms", "sample_rate": 22_050, "summary": ["mean"]})
    with pytest.raises(DatasetError, match=f"feature '{name}': every dataset has a column of this name"):
        Features([spec])
