"""What is put into pages as they are built: commands and settings, told by the program itself, and the root's pages."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel

from genre_spark import settings_sections
from genre_spark.cli import app
from genre_spark.settings import Settings

REPOSITORY = Path(__file__).parents[1]
BASE = REPOSITORY / "conf" / "base.yaml"
# Pages that stand beside README.md, where people look for them, and are told here as well.
ROOT_PAGES = {"security": "SECURITY.md", "contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}
# All pages that are more than their file, and have to be read anew each time.
PAGES = {"reference/cli", "reference/settings", *ROOT_PAGES}


def filled(page: str, text: str) -> str:
    """Put what is generated where a page says `<!-- commands -->`, `<!-- settings -->` or `<!-- ../SECURITY.md -->`."""
    if page == "reference/cli":
        text = text.replace("<!-- commands -->", commands())
    elif page == "reference/settings":
        text = text.replace("<!-- settings -->", settings())
    elif page in ROOT_PAGES:
        root_page = (REPOSITORY / ROOT_PAGES[page]).read_text(encoding="utf-8")
        text = text.replace(f"<!-- ../{ROOT_PAGES[page]} -->", root_page.replace("](docs/", "](/"))
    # Links hold where the files lie; the built pages have all of them below docs/.
    for built, root_page in (*ROOT_PAGES.items(), ("index", "README.md")):
        text = re.sub(rf"\]\((?:\.\./)*{re.escape(root_page)}", f"](/{built}.md", text)
    return text


def commands() -> str:
    """Write every command with its usage, arguments and options as Markdown."""
    return "\n".join(_command(typer.main.get_command(app), "genre-spark", None))


def _command(command: Any, name: str, parent: Any) -> Iterator[str]:
    context = typer.Context(command, info_name=name, parent=parent)
    path = context.command_path
    if parent is not None:
        paragraphs = [_escaped(paragraph) for paragraph in (command.help or "").split("\n\n")]
        yield "\n\n".join([f"{'#' * (path.count(' ') + 1)} {path}", *paragraphs, ""])
    children = getattr(command, "commands", {})
    if not children:
        yield f"```text\n{' '.join(command.get_usage(context).split()).removeprefix('Usage: ')}\n```\n"
        rows = [_row(param, context) for param in command.get_params(context) if not param.hidden]
        yield "| argument or option | value | what |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"
    for child, its_command in children.items():
        yield from _command(its_command, child, context)


def _row(param: Any, context: Any) -> str:
    # Click tells "-f, --format <table|json>", and puts what else it knows behind the text: [required], [default: x].
    shown, what = param.get_help_record(context)
    names = [*param.opts, *param.secondary_opts] if param.param_type_name == "option" else [shown.split()[0]]
    value = "" if getattr(param, "is_flag", False) else shown.rpartition(names[-1])[2].strip(" ,/")
    name, value = ", ".join(f"`{_cell(option)}`" for option in names), f"`{_cell(value)}`" if value else ""
    return f"| {name} | {value} | {_cell(_escaped(what))} |"


def settings() -> str:
    """Write every setting with its default, its bounds and the comment on it as Markdown."""
    comments, sections = _comments(BASE), []
    for section, field in Settings.model_fields.items():
        kind = field.annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            sections.append(f"## {section}\n\n{_escaped(comments.get((section,), ''))}\n")
            continue
        rows, told = [], set()
        for keys, default, takes, what in _keys(kind, field.default, comments, section):
            cells = [f"`{'.'.join((section, *keys))}`", f"`{_shown(default)}`", takes]
            cells.append("as above" if what in told else _escaped(what))
            told.update({what} - {""})
            rows.append(f"| {' | '.join(map(_cell, cells))} |")
        table = "| setting | default | takes | what |\n| --- | --- | --- | --- |\n" + "\n".join(rows)
        sections.append(f"## {section}\n\n{_escaped(kind.__doc__ or '')}\n\n{table}\n")
    return "\n".join(sections)


def _keys(
    section: type[BaseModel], defaults: BaseModel, comments: dict[tuple[str, ...], str], name: str
) -> Iterator[tuple[tuple[str, ...], Any, str, str]]:
    above = _comments_above(section.__name__)
    for key, field in section.model_fields.items():
        default = getattr(defaults, key)
        if isinstance(default, BaseModel):
            for inner, value, kind, what in _keys(type(default), default, {}, ""):
                yield (key, *inner), value, kind, what
        else:
            what = comments.get((name, key)) or above.get(key, "")
            yield (key,), default, _kind(field.annotation, field.metadata), what


def _kind(annotation: Any, metadata: list[Any]) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        annotation, *more = get_args(annotation)
        return _kind(annotation, [*more, *metadata])
    if origin in (Union, UnionType):
        kinds = [_kind(part, metadata if part is not type(None) else []) for part in get_args(annotation)]
        return " or ".join("null" if kind == "NoneType" else kind for kind in kinds)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if origin is tuple:
        return f"list of {_kind(get_args(annotation)[0], [])}"
    if origin is dict:
        return "mapping"
    bounds = [
        f"{sign} {limit if isinstance(limit, int) else format(limit, 'g')}"
        for part in metadata
        for constraint in (getattr(part, "metadata", None) or [part])
        for attribute, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if (limit := getattr(constraint, attribute, None)) is not None
    ]
    names = {"int": "whole number", "float": "number", "str": "text", "bool": "`true`, `false`", "Path": "path"}
    return " ".join([names.get(annotation.__name__, annotation.__name__), ", ".join(bounds)]).strip()


def _comments(file: Path) -> dict[tuple[str, ...], str]:
    """Comments behind the keys of a settings file, by section and key; lines of comment alone continue the last one."""
    found: dict[tuple[str, ...], str] = {}
    section, last = "", ()
    for line in file.read_text(encoding="utf-8").splitlines():
        indent, key, comment = re.match(r"( *)(?:([\w]+):[^#]*)?(?:# *(.*))?", line).groups()  # type: ignore[union-attr]
        if key:
            section = section if indent else key
            last = (section, key) if indent else (key,)
            found[last] = comment or ""
        elif comment and indent and last:
            found[last] = f"{found[last]} {comment}"
    return found


def _comments_above(section: str) -> dict[str, str]:
    """Comments above the fields of a section's class; one holds for all fields until the next comment."""
    source = Path(settings_sections.__file__).read_text(encoding="utf-8")
    body = re.search(rf"^class {section}\(.*?(?=^class |\Z)", source, re.MULTILINE | re.DOTALL)
    found: dict[str, str] = {}
    comment, lines = "", []
    for token in tokenize.generate_tokens(io.StringIO(body.group() if body else "").readline):
        if token.type == tokenize.COMMENT:
            lines.append(token.string.removeprefix("#").strip())
        elif token.type == tokenize.NAME and token.start[1] == 4:
            comment, lines = " ".join(lines) or comment, []
            if re.match(r"\s+\w+: ", token.line):
                found[token.string] = comment
            else:
                comment = ""
    return found


def _shown(value: object) -> str:
    if isinstance(value, bool | type(None)):
        return str(value).lower().replace("none", "null")
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def _escaped(text: str) -> str:
    # Outside of `code` a star, an underscore or an angle bracket is no markup of ours.
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<\[\]])", r"\\\1", part) for part in parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
