import dataclasses

import pytest

from genre_spark.dataset.job import warn_of_versions
from genre_spark.dataset.store import Dataset


def made_with(dataset: Dataset, versions: dict[str, str]) -> Dataset:
    return dataclasses.replace(dataset, manifest=dataset.manifest.model_copy(update={"versions": versions}))


def test_libraries_that_are_others_than_those_a_dataset_was_computed_with_are_named(
    dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    versions = dict(dataset.manifest.versions)
    warn_of_versions(None)
    warn_of_versions(dataset)
    assert not caplog.messages
    numpy = versions["numpy"]
    warn_of_versions(made_with(dataset, versions | {"numpy": "1.26.0", "a_faster_fft": "2.0"}))
    end = "the last bits of new rows may differ"
    assert caplog.messages == [
        f"{dataset}: was computed with a_faster_fft 2.0, here it is missing: {end}",
        f"{dataset}: was computed with numpy 1.26.0, here it is {numpy}: {end}",
    ]
