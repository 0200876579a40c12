"""What a training computes on: the machine's devices, its number format, and what becomes of too little memory."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from genre_spark.errors import ModelError
from genre_spark.models.backend import keras
from genre_spark.settings import TrainSettings

# The softmax and the standardisation keep 32 bits: a probability below 6e-8 is 0 in 16 bits, and a band at -80 dB loses
# its first decimal.
_IN_32_BITS = {r"(.*/)?genre": "float32", r"(.*/)?normalization(_\d+)?": "float32"}


@dataclass(frozen=True)
class Devices:
    """Devices that share each batch.

    Parameters
    ----------
    kind : str
        `cpu`, `gpu` or `tpu`.
    names : tuple of str
        As Keras' back end names them.
    """

    kind: str
    names: tuple[str, ...]

    @property
    def is_accelerator(self) -> bool:
        """Whether it is worth to keep data there, and to compute in 16 bits."""
        return self.kind != "cpu"

    def memory_bytes(self) -> int | None:
        """Memory of the smallest device, or None where nobody tells."""
        if keras.backend.backend() == "jax":
            import jax

            sizes = [(device.memory_stats() or {}).get("bytes_limit") for device in jax.local_devices()]
            return min((int(size) for size in sizes if size), default=None)
        program = shutil.which("nvidia-smi") if self.kind == "gpu" else None
        if program is None:
            return None
        # TensorFlow takes nearly all memory when it starts and doesn't tell how much that is.
        question = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        said = subprocess.run(question, capture_output=True, text=True, timeout=60, check=False).stdout  # noqa: S603
        return min((int(size) * 2**20 for size in re.findall(r"^\s*(\d+)", said, re.MULTILINE)), default=None)

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Build and fit a model in the body: with several devices each gets its share of every batch."""
        if len(self.names) < 2:
            yield
        elif keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            with tf.distribute.MirroredStrategy([name.upper() for name in self.names]).scope():
                yield
        else:
            with keras.distribution.DataParallel(devices=list(self.names), auto_shard_dataset=False).scope():
                yield


def find_devices(wanted: int | None, batch_size: int, batch_size_key: str) -> Devices:
    """Find the devices of this machine.

    Parameters
    ----------
    wanted : int, optional
        How many; None takes all.
    batch_size : int
        Has to be a multiple of their number.
    batch_size_key : str
        The setting that it stands in.

    Raises
    ------
    ModelError
        If there are fewer, or a batch can't be shared among them, or the back end can't.
    """
    backend = keras.backend.backend()
    found: list[str] = list(keras.distribution.list_devices()) if backend in ("jax", "tensorflow") else ["cpu:0"]
    kind = found[0].split(":")[0].lower()
    kind = "gpu" if kind in ("cuda", "rocm") else kind
    if wanted is not None and wanted > len(found):
        raise ModelError(
            f"train.devices={wanted}: this machine has {len(found)} {kind} device(s) for {backend}; lower it"
        )
    names = tuple(found[: wanted or len(found)])
    if batch_size % len(names):
        raise ModelError(
            f"{batch_size_key}={batch_size} can't be shared among {len(names)} devices; take a multiple of it, or set "
            "train.devices=1"
        )
    return Devices(kind, names)


def precision_of(train: TrainSettings, devices: Devices) -> str:
    """Name of Keras' dtype policy for a training."""
    if train.mixed_precision == "off" or (train.mixed_precision == "auto" and not devices.is_accelerator):
        return "float32"
    return "mixed_float16" if devices.kind == "gpu" else "mixed_bfloat16"


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Build models of that dtype policy in the body."""
    before = keras.config.dtype_policy()
    policy: Any = name
    if name != "float32":
        policies = {path: keras.dtype_policies.DTypePolicy(of_layer) for path, of_layer in _IN_32_BITS.items()}
        policy = keras.dtype_policies.DTypePolicyMap(keras.dtype_policies.DTypePolicy(name), policies)
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether that is how a back end says that its device's memory is too small."""
    text = f"{type(error).__name__}: {error}"
    if "No space left on device" in text:  # a disk
        return False
    return isinstance(error, MemoryError) or bool(
        re.search(r"RESOURCE_EXHAUSTED|ResourceExhausted|OutOfMemory|[Oo]ut of memory|\bOOM\b", text)
    )
