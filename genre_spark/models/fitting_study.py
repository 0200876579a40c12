"""The study's way to train, as settings: a fixed number of epochs, the last weights, and nothing adapted on the way."""

# The study's numbers of epochs. It names neither batch size nor learning rate: these are Keras' defaults.
EPOCHS = {"dnn": 100, "cnn1d": 50, "cnn2d": 50}


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
        }
        of_model = [f"models.{model_name}.{key}={value}" for key, value in chosen.items()]
    return [
        *of_model,
        "train.early_stopping_patience=0",
        "train.restore_best=false",
        "train.schedule=constant",
        "train.class_weights=off",
        "train.mixed_precision=off",
    ]
