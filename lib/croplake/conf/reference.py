"""The configuration reference: the models' docstrings as a Markdown page and as JSON Schemas."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic_core import PydanticUndefined

from croplake.conf.dataset import DatasetSpec
from croplake.conf.fields import ConfModel
from croplake.conf.models import Settings

_INTRO = """\
# Configuration reference

Generated from the models in `lib/croplake/conf/` by `make reference`; do not edit.

A configuration is one YAML file (`local.yaml` runs the miniature world, `sample.yaml` a few classes
of the real validation subset, `cluster.yaml` everything). Unknown keys are errors. Any key can be
overridden on the command line: `--set train.phases.0.epochs=3 --set 'fetch.sources=[original]'`.
Relative paths are relative to the working directory.

Editors that know YAML (through yaml-language-server: VS Code, Neovim, …) complete and check a file
whose first line names its schema, `settings.schema.json` or `dataset.schema.json` beside this page:
`# yaml-language-server: $schema=settings.schema.json`.
"""


def reference_page() -> str:
    """The page as Markdown."""
    return "\n".join([_INTRO, *_sections(Settings, ())])


def settings_schema() -> dict[str, Any]:
    """JSON Schema of a configuration file."""
    schema = Settings.model_json_schema()
    of_dataset = schema["properties"]["dataset"]
    path = {"type": "string", "description": "Path of a YAML file that holds it."}
    schema["properties"]["dataset"] = {"anyOf": [path, of_dataset]}
    return schema


def files() -> dict[str, str]:
    """All that is generated from the models: file name to content."""
    schemas = {
        "settings.schema.json": settings_schema(),
        "dataset.schema.json": DatasetSpec.model_json_schema(),
    }
    dumped = {name: json.dumps(schema, indent=1) + "\n" for name, schema in schemas.items()}
    return {"README.md": reference_page()} | dumped


def _sections(model: type[ConfModel], above: tuple[str, ...]) -> Iterator[str]:
    title = ".".join(above) or "Top level"
    yield f"## `{title}`\n" if above else f"## {title}\n"
    yield inspect.cleandoc(model.__doc__ or "") + "\n"
    yield "| key | type | default | meaning |\n|---|---|---|---|"
    inner: list[tuple[str, type[ConfModel]]] = []
    for name, field in model.model_fields.items():
        part = _inner_model(field.annotation)
        if part is not None:
            inner.append((name, part))
        meaning = " ".join((field.description or "").split())
        default = _default(field.get_default(call_default_factory=True), part)
        yield f"| `{name}` | {_type(model, name, part, (*above, name))} | {default} | {meaning} |"
    yield ""
    for name, part in inner:
        yield from _sections(part, (*above, name))


def _inner_model(annotation: Any) -> type[ConfModel] | None:  # noqa: ANN401  # any annotation
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, ConfModel):
            return candidate
    return None


def _default(value: Any, part: type[ConfModel] | None) -> str:  # noqa: ANN401  # any default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, tuple):
        return f"`{json.dumps([item.model_dump() if part else item for item in value])}`"
    if part is not None:
        return "null" if value is None else "see below"
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _type(
    model: type[ConfModel], name: str, part: type[ConfModel] | None, path: tuple[str, ...]
) -> str:
    if part is not None:
        anchor = re.sub(r"[^a-z0-9_-]", "", ".".join(path))
        of = f"[mapping](#{anchor})"
        return f"list of {of}s" if get_origin(model.model_fields[name].annotation) is tuple else of
    return _describe(model.model_json_schema()["properties"][name]).replace("|", "\\|")


def _describe(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_describe(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " / ".join(f"`{option}`" for option in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_describe(schema.get('items', {}))}"
    if kind == "object":
        of_pattern = [
            *schema.get("patternProperties", {}).values()
        ]  # of names that are bound to one
        values = of_pattern[0] if of_pattern else schema.get("additionalProperties")
        of = _describe(values) if isinstance(values, dict) else "any"
        return f"mapping to {of}"
    words = {"integer": "whole number", "number": "number", "boolean": "true / false"}
    return str(words.get(kind, kind)) + _limits(schema)


def _limits(schema: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    parts = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    if "pattern" in schema:
        parts.append(f"`{schema['pattern']}`")
    return f" ({', '.join(parts)})" if parts else ""


if __name__ == "__main__":
    for name, text in files().items():
        Path(sys.argv[1], name).write_text(text, encoding="utf-8")
