"""The last steps of a job: small files are joined, rows that no longer hold are dropped, and all is committed."""

import uuid
from collections import Counter
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genre_spark.dataset.commit import commit
from genre_spark.dataset.job import LIBRARIES, Job, failure, has_failed
from genre_spark.dataset.ledger import Ledger
from genre_spark.dataset.progress import WrittenFile
from genre_spark.dataset.rewrite import Group, Rewriting, grouped
from genre_spark.dataset.rows import ERRORS, FEATURES
from genre_spark.dataset.store import FILES_SCHEMA, FORMAT_VERSION, Dataset, Manifest, open_dataset
from genre_spark.dataset.table_files import read_rows
from genre_spark.dataset.tasks import run_tasks
from genre_spark.errors import DatasetError
from genre_spark.filesystems import masked
from genre_spark.provenance import now, versions_of


def committed(
    job: Job, ledger: Ledger, kept: Dataset | None, written: list[WrittenFile], check_lease: Callable[[], None]
) -> Dataset:
    """Join small files, drop rows that no longer hold, and commit."""
    job.tally.set(phase="joining files")
    stays, written = _rewritten(job, ledger, kept, written)
    counts, kinds = _counted(job, stays, written)
    if counts["tracks"] != ledger.standing:
        raise DatasetError(
            f"{job.folder}: its new files hold {counts['tracks']} tracks where there are {ledger.standing}; the "
            "dataset is as it was"
        )
    before = job.before if kept is None else None
    replaces_a_good_one = before is not None and not has_failed(before.manifest.counts, job.settings)
    if replaces_a_good_one and has_failed(counts, job.settings):
        errors = [read_rows(job.folder, ERRORS, file.name) for file in written if file.table == ERRORS]
        place = f"{job.folder}: is as it was; {masked(job.folder.join(job.work))}"
        raise failure(place, counts, pa.concat_tables(errors), job.settings)
    number = job.before.manifest.commit + 1 if job.before is not None else 1
    moment = now()
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        commit=number,
        files=f"files-{number:05d}-{uuid.uuid4().hex[:8]}.parquet",
        specs=list(job.product.specs),
        digests={spec.name: spec.digest for spec in job.product.specs},
        counts=counts,
        errors=kinds,
        versions=versions_of(LIBRARIES),
        audio=job.settings.audio.decoding(),
        created=kept.manifest.created if kept is not None else moment,
        changed=moment,
        wall_s=round(job.tally.elapsed_s, 3),
        predictor=job.product.predictor,
    )
    check_lease()
    commit(job.folder, job.work, manifest, stays, written)
    return open_dataset(job.folder.address)


def _rewritten(
    job: Job, ledger: Ledger, kept: Dataset | None, written: list[WrittenFile]
) -> tuple[pa.Table, list[WrittenFile]]:
    """Return the rows of the list of files that stay, and the new files, after small and changed ones are rewritten."""
    stays = kept.listed if kept is not None else FILES_SCHEMA.empty_table()
    changed = ledger.changed_files()
    settings = job.settings.extract
    smallest, largest = (mb * 1_000_000 for mb in (settings.min_file_mb, settings.max_file_mb))
    groups: list[Group] = []
    for table in (FEATURES, ERRORS):
        sizes = [(row["name"], row["bytes"]) for row in stays.to_pylist() if row["table"] == table]
        sizes = sorted(sizes) + [(file.name, file.bytes) for file in written if file.table == table]
        joined = grouped(sizes, smallest, largest)
        in_group = {name for group in joined for name in group}
        joined += [[name] for name, _ in sizes if name in changed and name not in in_group]
        for names in joined:
            changes = None
            if changed.intersection(names):
                changes = f"{job.work}/changes/{len(groups):06d}.parquet"
                with job.folder.created(changes) as file:
                    pq.write_table(ledger.changes_of(names), file)
            groups.append(Group(table, names, changes))
    if not groups:
        return stays, written
    rows_per_group = settings.tracks_per_row_group * job.product.rows_per_track
    rewriting = Rewriting(job.folder.address, job.work, job.product.schema(), rows_per_group)
    if len(groups) == 1:
        made = [rewriting(groups[0])]
    else:
        made = run_tasks(job.session(), rewriting, groups, f"join files of {masked(job.folder.address)}")
    gone = {name for group in groups for name in group.names}
    # A new file comes where the first one of its group was.
    made_of = {group.names[0]: files for group, files in zip(groups, made, strict=True)}
    old = stays.filter(pc.is_in(stays["name"], pa.array(sorted(gone), pa.string())))["name"].to_pylist()
    new = [file for name in sorted(old) for file in made_of.get(name, [])]
    for file in written:
        new += made_of.get(file.name, []) if file.name in gone else [file]
    stays = stays.filter(pc.invert(pc.is_in(stays["name"], pa.array(sorted(gone), pa.string()))))
    return stays, new


def _counted(job: Job, stays: pa.Table, written: Sequence[WrittenFile]) -> tuple[dict[str, int], dict[str, int]]:
    """Count tracks and rows, and error rows by class, of what is to be committed."""
    files = [WrittenFile(**row) for row in stays.to_pylist()] + list(written)
    rows = sum(file.rows for file in files if file.table == FEATURES)
    kinds: Counter[str] = Counter()
    for file in files:
        if file.table == ERRORS:
            kinds.update(read_rows(job.folder, ERRORS, file.name)["error"].to_pylist())
    per_track = job.product.rows_per_track
    if rows % per_track:
        raise DatasetError(f"{job.folder}: {rows} rows are no whole tracks of {per_track}; the dataset is as it was")
    features, errors = rows // per_track, kinds.total()
    counts = {"tracks": features + errors, "features": features, "errors": errors, "rows": rows}
    return counts, dict(kinds.most_common())
