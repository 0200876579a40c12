"""Row groups to petastorm's reader threads and back, in one order, with none lost.

The ventilator of petastorm 0.13.1 hands out row groups from a thread of its own, and its thread pool looks whether all
workers are done before it looks whether more was handed out: under load a reader ends early, its rows come in another
order each time, and every epoch has the same one. Here row groups are handed out in the reading thread, whenever one
came back, and are taken back in exactly the order in which they were handed out, whatever the number of threads.
"""

import atexit
import contextlib
import queue
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

# Seconds after which a thread looks whether it shall stop. petastorm's own millisecond keeps idle threads busy.
STOP_CHECK_S = 0.01
_RESULT_CHECK_S = 0.1

_pools: "weakref.WeakSet[Any]" = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    # Later a pool could not be stopped: the interpreter freezes daemon threads, and would wait for them for ever.
    for pool in list(_pools):
        pool.stop()
        pool.join()


def ordered_ventilator(base: Any) -> Any:
    """Ventilator in place of workers_pool/ventilator.py:61: without a thread, and with a new order in each epoch.

    With petastorm's thread the "dummy" pool sleeps for 0.1 s whenever it is faster than that thread, and for ever when
    it asks between the thread's last two steps (workers_pool/dummy_pool.py:63-68). A seed of 0 counts as none there,
    and the order is drawn once for all epochs (workers_pool/ventilator.py:143-149).
    """

    class OrderedVentilator(base):
        def __init__(
            self, ventilate_fn: Callable[..., None], *arguments: Any, tell_order: bool = False, **options: Any
        ):
            super().__init__(ventilate_fn, *arguments, **options)
            self._entropy: Any = np.random.SeedSequence(self._random_seed).entropy
            self._tell_order = tell_order
            self._coming = self._in_order()

        def _in_order(self) -> Iterator[tuple[dict[str, Any], bool]]:
            """Yield items for ever, and whether an item is the last one of its epoch."""
            epoch, count = 0, len(self._items_to_ventilate)
            while True:
                order = [self._entropy, epoch]
                numbers = (
                    np.random.default_rng(order).permutation(count) if self._randomize_item_order else range(count)
                )
                for place, number in enumerate(numbers):
                    item = self._items_to_ventilate[number]
                    yield item | {"order": order} if self._tell_order else item, place == count - 1
                epoch += 1

        def start(self) -> None:
            self._hand_out()

        def processed_item(self) -> None:
            super().processed_item()
            self._hand_out()

        def _hand_out(self) -> None:
            # Bounded: what was handed out and not taken back lies in memory.
            while (
                not self.completed()
                and self._ventilated_items_count - self._processed_items_count < self._max_ventilation_queue_size
            ):
                item, is_last = next(self._coming)
                self._ventilate_fn(**item)
                self._ventilated_items_count += 1
                if is_last and self._iterations_remaining is not None:
                    self._iterations_remaining -= 1

    return OrderedVentilator


def ordered_thread_pool(base: Any, empty: type[Exception], processed: type) -> Any:
    """Thread pool in place of workers_pool/thread_pool.py:80: what it was given first comes back first.

    Parameters
    ----------
    base : type
        petastorm's `ThreadPool`.
    empty, processed : type
        petastorm's `EmptyResultError` and `VentilatedItemProcessedMessage`.
    """

    class OrderedThreadPool(base):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._taken_back = 0
            _pools.add(self)

        def get_results(self) -> Any:
            while True:
                # Before the count, not after it (thread_pool.py:196-199): an item may be handed out in between.
                is_all = not self._ventilator or self._ventilator.completed()
                if is_all and self._taken_back == self._ventilated_items:
                    raise empty
                if self._stop_event.is_set():
                    raise RuntimeError("the reader was stopped")
                # thread_pool.py:170 deals items out to the workers in turn, and each of them keeps their order.
                waiting = self._results_queues[self._taken_back % self.workers_count]
                try:
                    result = waiting.get(timeout=_RESULT_CHECK_S)
                except queue.Empty:
                    continue
                if isinstance(result, processed):
                    self._taken_back += 1
                    if self._ventilator:
                        self._ventilator.processed_item()
                elif isinstance(result, Exception):
                    self.stop()
                    self.join()
                    raise result
                else:
                    return result

        def join(self) -> None:
            # A worker tells of its error without a look at the stop event (thread_pool.py:75): make room for it.
            for worker, results in zip(self._workers, getattr(self, "_results_queues", ()), strict=False):
                while worker.is_alive():
                    with contextlib.suppress(queue.Empty):
                        while True:
                            results.get_nowait()
                    worker.join(STOP_CHECK_S)
            super().join()

    return OrderedThreadPool
