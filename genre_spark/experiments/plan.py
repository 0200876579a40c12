"""What an experiment compares, as a YAML file says it.

models: [majority, svm:fma_518, cnn2d]   # architectures by name, scikit-learn's as METHOD:FEATURE
splits: [official, artist-kfold]         # artist-kfold takes every fold
seeds: [0, 1, 2]                         # of the training
reference: svm:fma_518                   # whom the others are compared with; by default the first
settings: {train: {seed: 0}}             # what differs from the settings that are given beside it
settings_of: {cnn2d: {train: {schedule: cosine}}}  # and what is one model's alone
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genre_spark.corpora.splits import Scheme
from genre_spark.errors import ExperimentError, ModelError
from genre_spark.models.architectures import ARCHITECTURES, find_architecture
from genre_spark.settings import Settings
from genre_spark.yaml_files import read_mapping

Method = Literal["majority", "logistic", "lda", "svm", "boosting"]
METHODS: tuple[Method, ...] = get_args(Method)

# Methods that draw nothing at random: one seed says it all.
_WITHOUT_SEED: tuple[Method, ...] = ("majority", "logistic", "lda", "svm", "boosting")


class Experiment(BaseModel):
    """The content of an experiment's file.

    Parameters
    ----------
    models : tuple of str
        Architectures by name; scikit-learn's methods as `METHOD:FEATURE`, and `majority`.
    splits : tuple of str
        Schemes of `genre_spark.corpora.splits.make_split`.
    seeds : tuple of int
        Of the training.
    reference : str, optional
        Which model the others are compared with; None: the first.
    settings : dict
        Sections and keys as in a settings file.
    settings_of : dict
        The same by model; only `train` and `models` differ from model to model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = Field(min_length=1)
    splits: tuple[Scheme, ...] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0, strict=True)], ...] = Field(default=(0,), min_length=1)
    reference: str | None = None
    settings: dict[str, Any] = {}
    settings_of: dict[str, dict[Literal["train", "models"], dict[str, Any]]] = {}

    @property
    def compared_with(self) -> str:
        """The model that the others are compared with."""
        return self.reference or self.models[0]


@dataclass(frozen=True)
class Cell:
    """One training of an experiment.

    Parameters
    ----------
    model, split : str
    seed : int
    fold : int, optional
        Of `artist-kfold`.
    own : dict
        Settings of this model alone.
    """

    model: str
    split: Scheme
    seed: int
    fold: int | None = None
    own: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of its folder."""
        fold = "" if self.fold is None else f"-fold{self.fold}"
        return f"{self.model.replace(':', '-')}-{self.split}{fold}-seed{self.seed}"

    @property
    def method(self) -> tuple[Method, str] | None:
        """scikit-learn's method and the feature that it reads, if it is none of our architectures."""
        return method_of(self.model)

    def settings(self, settings: Settings) -> Settings:
        """Settings of this training.

        Raises
        ------
        ExperimentError
            If one of its own is unknown or wrong.
        """
        if self.own:
            try:
                settings = Settings(**_merged(settings.model_dump(), self.own))
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                where = ".".join(str(part) for part in first["loc"])
                raise ExperimentError(
                    f"settings_of.{self.model}.{where}: {first['msg']}, not {first['input']!r}"
                ) from None
        split = settings.split if self.fold is None else settings.split.model_copy(update={"fold": self.fold})
        return settings.model_copy(
            update={"split": split, "train": settings.train.model_copy(update={"seed": self.seed})}
        )


def method_of(model: str) -> tuple[Method, str] | None:
    """Take `svm:fma_518` apart; `majority` needs no feature, an architecture is none of scikit-learn's.

    Raises
    ------
    ExperimentError
        If the method is unknown, or its feature is missing.
    """
    name, colon, feature = model.partition(":")
    if name == "majority" and not colon:
        return "majority", ""
    if name not in METHODS:
        if colon:
            raise ExperimentError(f"unknown method {name!r} of {model!r}; known are {', '.join(METHODS)}")
        return None
    if not feature or name == "majority":
        wanted = "majority" if name == "majority" else f"{name}:FEATURE, for instance {name}:fma_518"
        raise ExperimentError(f"model {model!r}: write {wanted}")
    return next(method for method in METHODS if method == name), feature


def read_experiment(file: Path) -> Experiment:
    """Read and check an experiment.

    Raises
    ------
    ExperimentError
        If the file is missing or no YAML, a key or a model is unknown, or something stands there twice.
    """
    content = read_mapping(file, "an experiment", ExperimentError)
    try:
        experiment = Experiment.model_validate(content)
    except ValidationError as error:
        raise ExperimentError(f"{file}: {_in_words(error)}") from None
    for model in experiment.models:
        try:
            if method_of(model) is None:
                find_architecture(model)
        except ExperimentError as error:
            raise ExperimentError(f"{file}: models: {error}") from None
        except ModelError:
            methods = ", ".join(f"{method}:FEATURE" for method in METHODS[1:])
            raise ExperimentError(
                f"{file}: models: unknown model {model!r}; known are {', '.join(ARCHITECTURES)}, majority, {methods}"
            ) from None
    for key in ("models", "splits", "seeds"):
        values = getattr(experiment, key)
        twice = [value for position, value in enumerate(values) if value in values[:position]]
        if twice:
            raise ExperimentError(f"{file}: {key}: {twice[0]!r} stands there twice")
    strange = sorted(set(experiment.settings_of) - set(experiment.models))
    if strange:
        raise ExperimentError(f"{file}: settings_of: {strange[0]!r} is none of the models")
    if experiment.compared_with not in experiment.models:
        raise ExperimentError(f"{file}: reference: {experiment.reference!r} is none of the models")
    return experiment


def _in_words(error: ValidationError) -> str:
    """Say what is wrong first: pydantic speaks of tuples, which YAML doesn't have."""
    found = error.errors(include_url=False)
    # A key that is misspelt is both unknown and missing.
    first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
    *_, key = where = [str(part) for part in first["loc"] if part != "[key]"]
    if first["type"] == "extra_forbidden":
        known = sorted(Experiment.model_fields)
        close = difflib.get_close_matches(key, known, n=1)
        return f"unknown key {key!r}; " + (f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}")
    if first["type"] == "missing":
        return f"{key} is missing; an experiment needs models and splits"
    if first["type"] in ("tuple_type", "list_type"):
        return f"{key}: must be a list, not {first['input']!r}; write {key}: [{first['input']}]"
    if where[0] == "settings_of" and first["type"] == "literal_error":
        return (
            f"{'.'.join(where)}: must be a section of the settings, train or models; "
            f"for instance settings_of: {{{where[1]}: {{models: {{{where[1]}: {{epochs: 3}}}}}}}}"
        )
    return f"{'.'.join(where)}: {first['msg']}, not {first['input']!r}"


def overrides_of(settings: dict[str, Any]) -> list[str]:
    """`section.key=value` for each value of a tree of settings, as `load_settings` takes them."""

    def leaves(tree: dict[str, Any], path: str) -> Iterator[str]:
        for key, value in tree.items():
            if isinstance(value, dict) and value:
                yield from leaves(value, f"{path}{key}.")
            else:
                text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
                yield f"{path}{key}={text}"

    return list(leaves(settings, ""))


def _merged(tree: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(tree)
    for key, value in other.items():
        known = merged.get(key)
        merged[key] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def cells_of(experiment: Experiment, folds: int) -> list[Cell]:
    """Every training of an experiment; with `folds` of them for `artist-kfold`."""
    cells = []
    for split in experiment.splits:
        for model in experiment.models:
            method = method_of(model)
            seeds = experiment.seeds[:1] if method and method[0] in _WITHOUT_SEED else experiment.seeds
            for seed in seeds:
                numbers = range(folds) if split == "artist-kfold" else [None]
                own: Mapping[Any, Any] = experiment.settings_of.get(model, {})
                cells += [Cell(model, split, seed, fold, own) for fold in numbers]
    return cells
