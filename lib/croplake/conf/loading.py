"""From a YAML file and `--set` to checked settings, with errors that name file, line and key."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from croplake.conf.fields import ConfModel
from croplake.conf.models import Settings
from croplake.errors import SettingsError

KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """A parsed YAML document and where each key stands: `file:line`, or the `--set` it came by."""

    name: str
    values: dict[str, Any]
    places: dict[KeyPath, str]

    def place(self, path: KeyPath) -> str:
        """Where the key stands, else what is set below it, else the nearest one above it."""
        below = [place for known, place in self.places.items() if known[: len(path)] == path]
        if path and below and path not in self.places:
            return ", ".join(below)
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.name


def load_settings(path: str, overrides: Sequence[str] = ()) -> Settings:
    """Reads and checks a configuration file.

    Args:
        path: YAML file. Its `dataset` is a mapping, or the path of a YAML file with one.
        overrides: `key.path=value` each, values in YAML; they win over the file.

    Returns:
        The checked settings.

    Raises:
        SettingsError: file missing, not YAML, unknown key, wrong value; the text names all of
            them with their places.
    """
    main = _read(Path(path))
    sources: dict[KeyPath, _Source] = {(): main}
    of_dataset = [override for override in overrides if override.startswith("dataset.")]
    for override in overrides:
        if override not in of_dataset:
            _apply(main, override)
    named = main.values.get("dataset")
    if isinstance(named, str):
        sources["dataset",] = _read(Path(named))
        main.values["dataset"] = sources["dataset",].values
    for override in of_dataset:
        if isinstance(named, str):
            _apply(sources["dataset",], override, below="dataset")
        else:
            _apply(main, override)
    try:
        return Settings.model_validate(main.values)
    except ValidationError as error:
        lines = [_explain(dict(item), sources) for item in error.errors(include_url=False)]
        raise SettingsError("\n".join(lines)) from None


def _read(path: Path) -> _Source:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {error}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected a mapping of settings, got {type(values).__name__}")
    places: dict[KeyPath, str] = {}
    _note_places(node, (), places, str(path))
    return _Source(str(path), values, places)


def _note_places(
    node: yaml.Node | None, above: KeyPath, places: dict[KeyPath, str], name: str
) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*above, str(key.value))
            place = f"{name}:{key.start_mark.line + 1}"
            if path in places:
                raise SettingsError(f"{place}: {'.'.join(path)} stands twice, see {places[path]}")
            places[path] = place
            _note_places(value, path, places, name)


def _apply(source: _Source, override: str, *, below: str | None = None) -> None:
    """Puts one `key.path=value` into a document, which holds the settings below `below`."""
    dotted, equals, text = override.partition("=")
    path = tuple(dotted.split("."))
    if not equals or not all(path):
        raise SettingsError(f"--set {override}: expected key.path=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {override}: the value is not YAML: {error}") from None
    if below is not None:
        path = path[1:]
    place: Any = source.values
    for key in path[:-1]:
        place = _step_into(place, key, override)
    if isinstance(place, list):
        place[_index(place, path[-1], override)] = value
    else:
        place[path[-1]] = value
    # What stood below it before is gone.
    for known in [known for known in source.places if known[: len(path)] == path]:
        del source.places[known]
    source.places[path] = f"--set {override}"


def _step_into(place: Any, key: str, override: str) -> Any:  # noqa: ANN401  # what YAML holds
    """The mapping or list below a key; a mapping where there is none."""
    if isinstance(place, list):
        return place[_index(place, key, override)]
    if not isinstance(place.get(key), dict | list):
        place[key] = {}
    return place[key]


def _index(items: list[Any], key: str, override: str) -> int:
    if not key.isdecimal() or int(key) >= len(items) or not isinstance(items[int(key)], dict):
        raise SettingsError(
            f"--set {override}: {key} is no item of the list of {len(items)} that the settings "
            "have there, counted from 0"
        )
    return int(key)


def _explain(item: dict[str, Any], sources: dict[KeyPath, _Source]) -> str:
    path = tuple(str(part) for part in item["loc"])
    source, inside = sources[()], path
    if path[:1] == ("dataset",) and ("dataset",) in sources:
        source, inside = sources["dataset",], path[1:]
    place, dotted = source.place(inside), ".".join(path)
    match item["type"]:
        case "extra_forbidden":
            known = _known_keys(path[:-1])
            return f"{place}: unknown key {dotted}{_did_you_mean(path, known)}"
        case "missing":
            return f"{place}: {dotted} is required"
        case "value_error":
            return f"{place}: {dotted or 'settings'}: {item['ctx']['error']}"
    found = item["input"] if not isinstance(item["input"], dict) else "a mapping"
    return f"{place}: {dotted}: {_lower_first(item['msg'])}, got {found!r}"


def _did_you_mean(path: KeyPath, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.0)
    if not close:
        return ""
    return f"; did you mean {'.'.join((*path[:-1], close[0]))}?"


def _known_keys(above: KeyPath) -> list[str]:
    model: type[BaseModel] | None = Settings
    for key in above:
        if key.isdecimal():  # an item of a list
            continue
        field = model.model_fields.get(key) if model else None
        model = _model_of(field.annotation) if field else None
    return list(model.model_fields) if model else []


def _model_of(annotation: Any) -> type[ConfModel] | None:  # noqa: ANN401  # any annotation
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, ConfModel):
            return candidate
    return None


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
