import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from genre_spark.dataset.rows import ROW_SCHEMA, feature_table
from genre_spark.features.spec import FeatureSpec

SPEC = FeatureSpec(name="x", kind="rms", sample_rate=8_000, summary="mean")

OF_TYPE = {
    pa.string(): st.text(max_size=8),
    pa.float64(): st.floats(allow_nan=False),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
}


def row_of_strategy() -> st.SearchStrategy:
    known = {
        field.name: OF_TYPE[field.type] | st.none() if field.nullable else OF_TYPE[field.type] for field in ROW_SCHEMA
    }
    sure = {name: known.pop(name) for name in ("track_id", "uri")}
    return st.fixed_dictionaries(sure, optional=known)


@given(st.lists(row_of_strategy(), max_size=20))
def test_rows_are_packed_as_arrow_packs_them(rows):
    table = feature_table(rows, [{"x": np.ones(1, np.float32)}] * len(rows), [SPEC])
    table.validate(full=True)
    assert table.select(ROW_SCHEMA.names).equals(pa.Table.from_pylist(rows, schema=ROW_SCHEMA))
