"""Typed settings: YAML files and overrides become one checked object.

The defaults stand here; `conf/base.yaml` spells them out for readers (a test holds the two equal). Later files win over
earlier ones, and `--set section.key=value` wins over all files.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from genre_spark.errors import SettingsError
from genre_spark.settings_sections import (
    AudioSettings,
    AuditSettings,
    EvaluateSettings,
    ExtractSettings,
    ModelSettings,
    ModelsSettings,
    ServeSettings,
    SparkSettings,
    SplitSettings,
    SyntheticSettings,
    TrainSettings,
)
from genre_spark.yaml_files import read_mapping

__all__ = [
    "AudioSettings",
    "AuditSettings",
    "EvaluateSettings",
    "ExtractSettings",
    "ModelSettings",
    "ModelsSettings",
    "ServeSettings",
    "Settings",
    "SparkSettings",
    "SplitSettings",
    "SyntheticSettings",
    "TrainSettings",
    "load_settings",
]


class Settings(BaseSettings):
    """All settings. Build them with `load_settings`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", nested_model_default_partial_update=True)

    synthetic: SyntheticSettings = SyntheticSettings()
    audio: AudioSettings = AudioSettings()
    # Specs of the user's own, by name; checked by `genre_spark.features.spec`, which knows what is possible.
    features: dict[str, dict[str, Any]] = {}
    audit: AuditSettings = AuditSettings()
    extract: ExtractSettings = ExtractSettings()
    split: SplitSettings = SplitSettings()
    train: TrainSettings = TrainSettings()
    models: ModelsSettings = ModelsSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    serve: ServeSettings = ServeSettings()
    spark: SparkSettings = SparkSettings()

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *others: Any, **named: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read no environment variables: a stray `SPARK` or `SPLIT` must not change what is computed."""
        return (init_settings,)


def load_settings(files: Sequence[Path] = (), overrides: Sequence[str] = ()) -> Settings:
    """Read settings from YAML files and `section.key=value` overrides.

    Parameters
    ----------
    files : sequence of Path
        Later files win, key by key.
    overrides : sequence of str
        Each `section.key=value`, the value read as YAML (a Spark property's as it stands); they win over the files.

    Raises
    ------
    SettingsError
        If a file is missing or no YAML mapping, a key is unknown, or a value is wrong; the message names it.
    """
    # Each is read once: a pipe, such as bash's <(...), holds its text only once.
    contents = [_read_settings(file) for file in files]

    class FromFiles(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            # Sources are merged deeply, the first wins: a file each, the last file first.
            return init_settings, *(InitSettingsSource(settings_cls, content) for content in reversed(contents))

    try:
        loaded = FromFiles(**_nested(overrides))
    except ValidationError as error:
        raise SettingsError(_one_line(error, files)) from None
    return Settings.model_construct(**{name: getattr(loaded, name) for name in Settings.model_fields})


def _read_settings(file: Path) -> dict[str, Any]:
    content = read_mapping(file, "settings", SettingsError)
    for key in content:
        if not isinstance(key, str):
            raise SettingsError(f"{file}: unknown setting {key!r}; known are {', '.join(_known_keys(()))}")
    return content


def _nested(overrides: Sequence[str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise SettingsError(f"--set {override}: must read section.key=value")
        value: Any
        if keys[:2] == ["spark", "conf"] and len(keys) > 2:
            # Spark's own keys have dots in them: all behind spark.conf is one key. Its value is text as it stands, YAML
            # would turn 010 into 8.
            keys, value = ["spark", "conf", ".".join(keys[2:])], text.strip()
        else:
            try:
                value = yaml.safe_load(text)
            except yaml.YAMLError:
                raise SettingsError(f"--set {override}: the value is not YAML") from None
        branch = tree
        for key in keys[:-1]:
            branch = branch.setdefault(key, {})
            if not isinstance(branch, dict):
                raise SettingsError(f"--set {override}: {key} was set to a value before")
        branch[keys[-1]] = value
    return tree


def _one_line(error: ValidationError, files: Sequence[Path]) -> str:
    first = error.errors(include_url=False)[0]
    *parents, key = [str(part) for part in first["loc"]]
    where = ".".join([*parents, key])
    source = f" (in {', '.join(str(file) for file in files)} or --set)" if files else ""
    if first["type"] == "extra_forbidden":
        known = _known_keys(parents)
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {'.'.join([*parents, close[0]])}?" if close else f"known are {', '.join(known)}"
        if parents in ([], ["train"]) and key in ModelSettings.model_fields:
            hint = f"it is one of each model: models.dnn.{key}, for instance"
        return f"unknown setting {where}{source}; {hint}"
    if first["type"] in ("tuple_type", "list_type"):
        return f"setting {where}={first['input']!r}{source}: must be a list; write [{first['input']}]"
    return f"setting {where}={first['input']!r}{source}: {first['msg']}"


def _known_keys(parents: Sequence[str]) -> list[str]:
    model: Any = Settings
    for parent in parents:
        model = model.model_fields[parent].annotation
    return sorted(model.model_fields)
