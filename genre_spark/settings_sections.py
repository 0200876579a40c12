"""The sections of the settings: what can be set, within which bounds, and what it is where nothing is said.

Apart from `genre_spark.settings`, which reads files: Spark's workers take a section along, and no parser of YAML.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, model_validator

# NumPy, scikit-learn and Keras take seeds of 32 bits.
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
# Strict: `true` is no number of epochs.
Count = Annotated[int, Field(gt=0, strict=True)]


def _spark_text(value: object) -> object:
    # Spark writes true and false as YAML does, Python does not.
    return str(value).lower() if isinstance(value, bool) else value


def _switch(value: object) -> object:
    # YAML takes on and off for true and false.
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Switch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, content: object) -> object:
        # A section whose keys are all commented out is null in YAML.
        return {} if content is None else content


class SyntheticSettings(_Section):
    """The corpus that `genre-spark corpus synthetic` composes."""

    clips_per_genre: Count = 40
    artists_per_genre: Count = 10
    duration_s: PositiveFloat = 30.0
    seed: Seed = 0


class AudioSettings(_Section):
    """Limits on what is decoded."""

    max_duration_s: PositiveFloat = 1_800.0
    max_file_mb: Count = 1_024
    # What becomes of a file of which less comes out than it announces.
    shortened: Literal["error", "keep"] = "error"
    # A track is decoded and analysed in a process of its own, which is ended when it takes longer than that, or more
    # memory on top of what it has at its start.
    max_decode_s: PositiveFloat = 120.0
    max_memory_mb: Count | None = None

    def decoding(self) -> dict[str, Any]:
        """What `genre_spark.features.decode` takes: the settings that decide what a file gives."""
        return self.model_dump(include={"max_duration_s", "max_file_mb", "shortened"})


class ExtractSettings(_Section):
    """Layout of a dataset, and when an extraction counts as failed."""

    # Most tracks of a Spark task. A job of few tracks has smaller ones, so that no core idles.
    tracks_per_task: Count = 256
    # Band of the sizes of files with features: a task's file is not larger, and smaller ones are joined.
    min_file_mb: int = Field(default=8, ge=0, strict=True)
    max_file_mb: Count = 128
    # Row groups of 10 to 25 tracks were the fastest to read (half-megabyte tensors).
    tracks_per_row_group: Count = 16
    # What shows that a track's audio is another one: size and time of last change, or the hash of the bytes.
    changed_by: Literal["stat", "hash"] = "stat"
    # How long to wait for another job on the same dataset.
    wait_s: float = Field(default=0.0, ge=0.0)
    # How often `--progress-json` gets a line.
    progress_s: PositiveFloat = 10.0
    max_error_fraction: float = Field(default=0.5, ge=0.0, le=1.0)


class AuditSettings(_Section):
    """When the audit of a corpus calls a clip too short, silent or clipped."""

    min_duration_s: PositiveFloat = 5.0
    # Quieter than that, by its RMS level, there is nothing to hear: 16 bits end at -96 dBFS.
    silent_dbfs: float = Field(default=-60.0, lt=0.0)
    # Share of the samples that stand at full scale or above.
    max_clipped: float = Field(default=0.001, ge=0.0, le=1.0)


class SplitSettings(_Section):
    """Shares of the parts. `study` has the study's two parts, `artist` three; `official` is the corpus's own."""

    seed: Seed = 0
    study_training: float = Field(default=0.7, gt=0.0, lt=1.0)
    artist_validation: float = Field(default=0.15, gt=0.0, lt=0.5)
    artist_test: float = Field(default=0.15, gt=0.0, lt=0.5)
    # What must not stand on two sides in the schemes `artist` and `artist-kfold`.
    group_by: tuple[Literal["artist", "album", "pcm"], ...] = Field(default=("artist", "album", "pcm"), min_length=1)
    # `artist-kfold`: fold number `fold` (from 0) is the test part, the next one validation, the others training.
    folds: int = Field(default=5, ge=3, strict=True)
    fold: int = Field(default=0, ge=0, strict=True)


class TrainSettings(_Section):
    """What holds for the training of every model."""

    seed: Seed = 0
    # Up to this size the training and validation tensors are read once and kept in memory.
    cache_mb: int = Field(default=4_096, ge=0, strict=True)
    # Threads that read tensors which aren't kept in memory, and how much of them is kept on the local disk.
    reader_threads: int = Field(default=2, ge=0, strict=True)
    disk_cache_mb: int = Field(default=0, ge=0, strict=True)
    # A mean and a variance for each coefficient or band over all frames, or for each value of the tensor.
    standardise: Literal["band", "cell"] = "band"
    # What `fit-scaler` wrote for the same split; null: fitted before the first epoch.
    scaler: Path | None = None
    # Epochs without a lower validation loss after which a training ends (0: never), and whether the model then gets the
    # weights of its best epoch.
    early_stopping_patience: int = Field(default=15, ge=0, strict=True)
    restore_best: bool = True
    # How the learning rate goes on: `plateau` multiplies it by plateau_factor after plateau_patience epochs without a
    # lower validation loss; `cosine` lets it fall to min_learning_rate in the last epoch.
    schedule: Literal["constant", "plateau", "cosine"] = "plateau"
    plateau_patience: Count = 5
    plateau_factor: float = Field(default=0.5, gt=0.0, lt=1.0)
    min_learning_rate: float = Field(default=1e-6, ge=0.0)
    # Weigh rare genres as much as common ones; auto: where the commonest has over 1.5 times the tracks of the rarest.
    class_weights: Switch = "auto"
    # Compute in 16 bits, keep weights in 32. auto: on a GPU or a TPU, not on a CPU.
    mixed_precision: Switch = "auto"
    # Keep the tensors in the device's memory. auto: on a GPU or a TPU where they take no more than a third of it.
    on_device: Switch = "auto"
    # How many of this machine's GPUs share each batch; null: all.
    devices: Count | None = None
    # How many epochs apart `--resume` finds checkpoints.
    checkpoint_epochs: Count = 1
    # Experiment of MLflow that the run is logged to as well.
    mlflow_experiment: str | None = Field(default=None, min_length=1)


class ModelSettings(_Section):
    """How one model is trained."""

    epochs: Count
    batch_size: Count = 32
    learning_rate: PositiveFloat = 1e-3
    # How slowly BatchNorm's moving statistics follow. Keras' 0.99 wants thousands of steps: with few tracks or epochs
    # they lag behind the weights, and a model that is right in training is at chance in use. `dnn` has no BatchNorm.
    batch_norm_momentum: float = Field(default=0.99, ge=0.0, lt=1.0)
    # Share of the probability that the loss wants spread over all genres: nothing is learnt to be certain.
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)


class ModelsSettings(_Section):
    """The study's three models with the study's numbers of epochs, and ours with what cross-validation chose."""

    dnn: ModelSettings = ModelSettings(epochs=100)
    cnn1d: ModelSettings = ModelSettings(epochs=50)
    cnn2d: ModelSettings = ModelSettings(epochs=50)
    linear518: ModelSettings = ModelSettings(epochs=40, batch_size=64, label_smoothing=0.1)
    cnn_time: ModelSettings = ModelSettings(epochs=60, learning_rate=2e-3, batch_norm_momentum=0.9, label_smoothing=0.1)


class EvaluateSettings(_Section):
    """The Spark job that scores a dataset."""

    batch_size: Count = 32


class ServeSettings(_Section):
    """The page on which files are dropped."""

    max_upload_mb: Count = 100
    # A sender that is slower than that, or sends no end, is sent away.
    max_upload_s: PositiveFloat = 60.0
    # Decoding, features, all windows of the timeline; then the process that does it is ended and another one started.
    max_predict_s: PositiveFloat = 120.0
    # One file is listened to at a time; beyond these the answer is "busy".
    waiting: int = Field(default=3, ge=0, strict=True)
    # Names under which other machines may ask for the page; loopback's and the address of --host always hold.
    host_names: tuple[str, ...] = ()


class SparkSettings(_Section):
    """The session. Under `spark-submit` its own settings win over these."""

    # YAML reads `spark.task.cpus: 1` as a number; Spark wants text.
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    master: str = "local[*]"
    driver_memory: str = Field(default="2g", pattern=r"^\d+[kmgt]$")
    log_level: str = Field(default="WARN", pattern="^(ERROR|WARN|INFO|DEBUG)$")
    conf: dict[str, Annotated[str, BeforeValidator(_spark_text)]] = {}
