"""What many files of a dataset say of their tracks, without a look at tensors."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa

from genre_spark.dataset.table_files import read_rows
from genre_spark.folders import Folder

# Files that are read at once.
_READERS = 8


def rows_of(folder: Folder, files: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, pa.Table]]:
    """Yield table, name and rows of files, in their order.

    Several are read at once, as each is a few waits for an object store, and never more than a few are held.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        waiting: deque[tuple[str, str, Future[pa.Table]]] = deque()
        try:
            for table, name in files:
                waiting.append((table, name, pool.submit(read_rows, folder, table, name)))
                if len(waiting) > _READERS:
                    table, name, rows = waiting.popleft()
                    yield table, name, rows.result()
            while waiting:
                table, name, rows = waiting.popleft()
                yield table, name, rows.result()
        finally:
            pool.shutdown(cancel_futures=True)
