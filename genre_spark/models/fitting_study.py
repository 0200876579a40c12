"""The study's way to train, as settings: a fixed number of epochs, the last weights, and nothing adapted on the way."""

# The study's numbers of epochs. It names neither batch size nor learning rate: these are Keras' defaults.
EPOCHS = {"dnn": 100, "cnn1d": 50, "cnn2d": 50}

# Settings that stay what they are, by section. Where and how fast a training runs, and how it is written down; seeds,
# which the study doesn't name; what has no effect beside the others; and what is of other splits than the study's.
LEFT = {
    "train": frozenset({
        "cache_mb", "reader_threads", "disk_cache_mb", "on_device", "devices", "checkpoint_epochs", "mlflow_experiment",
        "seed",
        "plateau_patience", "plateau_factor", "min_learning_rate",
    }),
    "split": frozenset({"seed", "artist_validation", "artist_test", "group_by", "folds", "fold"}),
}  # fmt: skip


def study_overrides(model_name: str) -> list[str]:
    """Settings, each `section.key=value`, that train one of the study's models as the study did.

    Parameters
    ----------
    model_name : {"dnn", "cnn1d", "cnn2d"}
        Whose numbers are wanted; another name gets what holds for all models.
    """
    of_model = []
    if model_name in EPOCHS:
        chosen = {
            "epochs": EPOCHS[model_name],
            "batch_size": 32,
            "learning_rate": 0.001,
            "batch_norm_momentum": 0.99,
            "label_smoothing": 0.0,
        }
        of_model = [f"models.{model_name}.{key}={value}" for key, value in chosen.items()]
    return [
        *of_model,
        "split.study_training=0.7",
        # Its StandardScaler knows columns. What those of a tensor with time are, it doesn't say: here the bands.
        "train.standardise=band",
        "train.scaler=null",
        "train.early_stopping_patience=0",
        "train.restore_best=false",
        "train.schedule=constant",
        "train.class_weights=off",
        "train.mixed_precision=off",
    ]
