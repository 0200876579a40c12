"""Count what an audit found, with Spark: only counts and a few rows of each kind come to the driver."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from genre_spark.dataset.audit_summary import EXAMPLES, PROBLEMS, Copy, Example, Facet, Group

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def summarise(audited: "DataFrame") -> dict[str, Any]:
    """Count an audit's rows: the fields of `AuditSummary` that come from them."""
    from pyspark.sql import functions as F  # noqa: N812

    facets = _facets(audited)
    (whole,) = facets.pop("all").values()
    problems = facets.pop("problem", {})
    ((quantiles,),) = audited.agg(F.percentile("decoded_s", list(QUANTILES))).collect()
    return {
        "tracks": whole.tracks,
        "hours": whole.hours,
        "with_problems": whole.with_problems,
        "problems": {name: problems[name].tracks if name in problems else 0 for name in PROBLEMS},
        **{kind: facets.get(kind, {}) for kind in ("errors", "genres", "sample_rates", "channels", "formats")},
        "duration_quantiles_s": {
            f"{quantile:g}": round(value, 3) for quantile, value in zip(QUANTILES, quantiles or (), strict=False)
        },
        "examples": _examples(audited),
        **_groups(audited),
    }


def _facets(audited: "DataFrame") -> dict[str, dict[str, Facet]]:
    """Count by all values of all kinds in one pass over the rows: kind -> value -> counts, most tracks first."""
    from pyspark.sql import functions as F  # noqa: N812

    kinds = {
        "all": F.lit(""),
        "errors": F.col("error"),
        "genres": F.coalesce("genre", F.lit("null")),
        "sample_rates": F.col("sample_rate").cast("string"),
        "channels": F.col("channels").cast("string"),
        "formats": F.concat_ws("/", "format", "codec"),
    }
    pairs = [F.struct(F.lit(kind).alias("kind"), value.alias("value")) for kind, value in kinds.items()]
    problems = F.transform("problems", lambda problem: F.struct(F.lit("problem").alias("kind"), problem.alias("value")))
    counted = (
        audited.select("decoded_s", "problems", F.explode(F.concat(F.array(*pairs), problems)).alias("pair"))
        .where("pair.value is not null and (pair.value != '' or pair.kind = 'all')")
        .groupBy("pair.kind", "pair.value")
        .agg(
            F.count("*").alias("tracks"),
            (F.coalesce(F.sum("decoded_s"), F.lit(0.0)) / 3_600).alias("hours"),
            F.count_if(F.size("problems") > 0).alias("with_problems"),
        )
    )
    facets: dict[str, dict[str, Facet]] = {}
    for row in sorted(counted.collect(), key=lambda row: (-row.tracks, row.value)):
        facet = Facet(tracks=row.tracks, hours=round(row.hours, 4), with_problems=row.with_problems)
        facets.setdefault(row.kind, {})[row.value] = facet
    return facets


def _examples(audited: "DataFrame") -> dict[str, list[Example]]:
    """The first tracks behind each problem, by `track_id`."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    by_id = Window.partitionBy("problem").orderBy("track_id")
    rows = (
        audited.withColumn("problem", F.explode("problems"))
        .withColumn("rank", F.row_number().over(by_id))
        .where(F.col("rank") <= EXAMPLES)
        .orderBy("rank")
        .collect()
    )
    examples: dict[str, list[Example]] = {}
    for row in rows:
        reason = _reason(row.problem, row.asDict())
        examples.setdefault(row.problem, []).append(Example(track_id=row.track_id, uri=row.uri, reason=reason))
    return {problem: examples[problem] for problem in PROBLEMS if problem in examples}


def _reason(problem: str, row: Mapping[str, Any]) -> str:
    match problem:
        case "broken":
            return f"{row['error']}: {row['detail']}"
        case "too_short":
            return f"{row['decoded_s']:.2f} s"
        case "shortened":
            of = "an unknown length" if math.isinf(row["announced_s"]) else f"{row['announced_s']:.2f} s"
            return f"{row['decoded_s']:.2f} s of {of}"
        case "silent":
            return "digital silence" if math.isinf(row["rms_dbfs"]) else f"{row['rms_dbfs']:.1f} dBFS RMS"
        case "clipped":
            return f"{row['clipped']:.2%} of the samples"
        case "duplicate":
            return f"copy of {row['duplicate_of']}"
        case _:
            return f"is {row['format']}/{row['codec']}"


def _groups(audited: "DataFrame") -> dict[str, Any]:
    """Count the groups of copies; the first of them, those whose labels contradict each other before the others."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    copies = audited.where("duplicate_group is not null")
    # Only what is known on both sides can differ; a page that says "not found" twice was labelled wrongly by nobody.
    is_music = F.max("error").isNull()
    groups = copies.groupBy("duplicate_group").agg(
        F.count("*").alias("tracks"),
        *(
            F.coalesce(is_music & (F.min(name) != F.max(name)), F.lit(False)).alias(name)
            for name in ("genre", "artist")
        ),
    )
    contradicts = F.col("genre") | F.col("artist")
    ((all_groups, contradicting),) = groups.agg(F.count("*"), F.count_if(contradicts)).collect()
    if not all_groups:
        return {"duplicate_groups": 0, "contradicting_groups": 0, "first_groups": []}
    chosen = groups.orderBy(contradicts.desc(), "duplicate_group").limit(EXAMPLES).collect()
    in_group = Window.partitionBy("duplicate_group").orderBy("track_id")
    members = (
        copies.where(F.col("duplicate_group").isin([row.duplicate_group for row in chosen]))
        .withColumn("rank", F.row_number().over(in_group))
        .where(F.col("rank") <= EXAMPLES)
        .orderBy("rank")
        .select("duplicate_group", "track_id", "genre", "artist")
        .collect()
    )
    first = {
        row.duplicate_group: [
            Copy(track_id=copy.track_id, genre=copy.genre, artist=copy.artist)
            for copy in members
            if copy.duplicate_group == row.duplicate_group
        ]
        for row in chosen
    }
    return {
        "duplicate_groups": all_groups,
        "contradicting_groups": contradicting,
        "first_groups": [
            Group(
                tracks=row.tracks,
                differ=[name for name in ("genre", "artist") if row[name]],
                first=first[row.duplicate_group],
            )
            for row in chosen
        ],
    }
