"""What a page of Markdown claims about this project, and whether it is so: commands, options, settings, links.

Nothing is executed: a command line is cut as a shell would, and handed to the parsers of the commands themselves.
"""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer
import yaml
from markdown_it import MarkdownIt
from pydantic import BaseModel

from genre_spark.cli import app
from genre_spark.errors import GenreSparkError
from genre_spark.experiments.plan import read_experiment
from genre_spark.settings import Settings, SparkSettings, load_settings

REPOSITORY = Path(__file__).parents[1]
CLUSTER = REPOSITORY / "genre_spark" / "cluster" / "__main__.py"
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
TARGETS = {match[1]: match[2] for match in re.finditer(r"^([a-z-]+):.*\n((?:\t.*\n|#.*\n)*)", MAKEFILE, re.MULTILINE)}
VARIABLES = set(re.findall(r"^([A-Z_]+) *[?:]?=", MAKEFILE, re.MULTILINE))
# Flags of others that stand alone in the text.
FOREIGN_OPTIONS = {"--archives", "--py-files", "--principal", "--keytab", "--conf", "--files", "--deploy-mode"}
# Languages under other names, which would hide from the checks.
SYNONYMS = {"bash": "sh", "console": "sh", "shell": "sh", "zsh": "sh", "yml": "yaml", "py": "python"}
# Names that end so are files, whatever stands before the dot.
FILES = {"csv", "json", "log", "md", "parquet", "py", "yaml"}


class Code(NamedTuple):
    """A piece of code of a page: `language` is empty for code within a line."""

    line: int
    language: str
    text: str


class Page(NamedTuple):
    """What a page of Markdown consists of, as far as it can be checked."""

    code: list[Code]
    links: list[str]
    anchors: set[str]


def read_page(text: str) -> Page:
    """Take a page of Markdown apart."""
    code, links, anchors = [], [], set()
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for before, token in itertools.pairwise([tokens[0], *tokens]):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "fence":
            code.append(Code(line, token.info.strip() or "text", token.content))
        for child in token.children or ():
            if child.type == "code_inline":
                code.append(Code(line, "", child.content))
            links += [str(child.attrs[key]) for key in ("href", "src") if key in child.attrs]
        if before.type == "heading_open":
            anchors.add(re.sub(r"[^\w\- ]", "", token.content.lower()).replace(" ", "-"))
    return Page(code, links, anchors)


def faults(code: Code, scratch: Path) -> Iterator[str]:
    """Say what is wrong with a piece of code: a line for each fault. Settings are tried from a file in `scratch`."""
    if code.language == "sh":
        for line in re.sub(r"\\\n", " ", code.text).splitlines():
            for words in _simple_commands(line):
                yield from _command_faults(words, whole=True)
    elif code.language == "yaml":
        file = scratch / "page.yaml"
        file.write_text(code.text, encoding="utf-8")
        try:
            is_experiment = "splits" in yaml.safe_load(code.text)
            read_experiment(file) if is_experiment else load_settings([file])
        except (GenreSparkError, yaml.YAMLError) as error:
            yield str(error)
    elif code.language == "python":
        try:
            compile(code.text, "page", "exec")
        except SyntaxError as error:
            yield f"no Python: {error}"
    elif code.language == "":
        yield from _inline_faults(code.text)
    elif code.language in SYNONYMS:
        yield f"call it {SYNONYMS[code.language]}: a block of {code.language} is not checked"


def _inline_faults(text: str) -> Iterator[str]:
    if re.match(r"(\S*bin/)?(genre-spark|make|spark-submit|jobs/\w+\.py)( |$)", text):
        # `[--option VALUE]` may be left out, `{one,other}` are all to be tried.
        for one in _alternatives(text.replace("[", "").replace("]", "")):
            for words in _simple_commands(one):
                yield from _command_faults(words, whole=False)
    elif re.match(r"--[a-z]", text):
        option = re.split(r"[ =]", text)[0]
        if not _is_option(option):
            yield f"{option}: no command has this option"
    elif re.fullmatch(rf"({'|'.join(Settings.model_fields)})\.[\w.*]+(=.*)?", text):
        yield from _setting_faults(text)


def _alternatives(text: str) -> list[str]:
    parts = [part.split(",") if number % 2 else [part] for number, part in enumerate(re.split(r"\{([^}]*)\}", text))]
    return ["".join(choice) for choice in itertools.product(*parts)]


def _simple_commands(line: str) -> Iterator[list[str]]:
    """Words of each simple command of a line: no assignments before it, keywords, redirections and bare variables."""
    lexer = shlex.shlex(re.sub(r"\$\([^)]*\)", "VALUE", line), posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    for is_end, group in itertools.groupby(lexer, lambda word: set(word) <= set(";&|<>")):
        words = list(itertools.dropwhile(lambda word: word in ("do", "then") or re.match(r"\w+=", word), group))
        words = [word for word in words if not re.fullmatch(r"\$\w+", word)]
        if words and not is_end:
            yield words


def _command_faults(words: list[str], *, whole: bool) -> Iterator[str]:
    whole = whole and "..." not in words
    words = [word for word in words if word != "..."]
    yield from (f"{word}: no such file" for word in words if _is_ours(word) and not (REPOSITORY / word).exists())
    head, *rest = words or [""]
    scripts = (number for number, word in enumerate(words) if re.search(r"(^|/)(jobs|benchmarks)/\w+\.py$", word))
    script = next(scripts, None)
    if head.rpartition("/")[2] == "genre-spark":
        yield from _stage_faults(rest, whole=whole)
    elif head == "make":
        yield from _make_faults(rest)
    elif script is not None and "benchmarks/" in words[script]:
        yield from _absent(words[script + 1 :], (REPOSITORY / words[script]).read_text(encoding="utf-8"), words[script])
    elif script is not None:
        job = REPOSITORY / "jobs" / words[script].rpartition("/")[2]
        if job.exists():
            stage = re.search(r'main\(\["([\w-]+)"', job.read_text(encoding="utf-8"))
            assert stage is not None, job
            yield from _stage_faults([stage[1], *words[script + 1 :]], whole=whole)
    elif words[1:3] == ["-m", "genre_spark.cluster"]:
        yield from _absent(rest[2:], CLUSTER.read_text(encoding="utf-8"), "genre_spark.cluster")


def _is_ours(word: str) -> bool:
    return re.match(r"(conf|jobs|benchmarks|notebooks|tests)/[\w/.-]+$", word) is not None


def _stage_faults(words: list[str], *, whole: bool) -> Iterator[str]:
    command, name = typer.main.get_command(app), "genre-spark"
    while words and (children := getattr(command, "commands", None)) and not words[0].startswith("-"):
        if words[0] not in children:
            if words[0] == "COMMAND":
                return
            yield f"{name} {words[0]}: no such command; known are {', '.join(children)}"
            return
        command, name, words = children[words[0]], f"{name} {words[0]}", words[1:]
    if getattr(command, "commands", None) or "--help" in words:
        return
    try:
        command.make_context(name, list(words))
    except Exception as error:
        # In running text only what is spoken of stands there, and a value may be a name: SECONDS.
        kind = type(error).__name__
        options = getattr(getattr(error, "param", None), "opts", ())
        named = any(option in options and value.isupper() for option, value in itertools.pairwise(words))
        if whole or not (kind in ("MissingParameter", "NoArgsIsHelpError") or named):
            yield f"{name}: {getattr(error, 'message', '') or error}"
    for option, value in itertools.pairwise(words):
        if option == "--set" and value.lower() != "section.key=value":
            yield from _override_faults(value)


def _override_faults(text: str) -> Iterator[str]:
    try:
        load_settings([], [text])
    except GenreSparkError as error:
        yield str(error)


def _setting_faults(text: str) -> Iterator[str]:
    path, equals, _ = text.partition("=")
    section, *keys = path.removesuffix(".*").split(".")
    # Spark's own properties begin with the same word as our section, and files may, too.
    if keys[-1:] == ["*"] or (keys and keys[-1] in FILES) or section == "features":
        return
    if section == "spark" and keys[:1] and keys[0] not in SparkSettings.model_fields:
        return
    if equals:
        yield from _override_faults(text)
    model: Any = Settings.model_fields[section].default
    for key in keys if not equals else ():
        if isinstance(model, dict):
            return
        if not isinstance(model, BaseModel) or key not in type(model).model_fields:
            yield f"{text}: no such setting"
            return
        model = getattr(model, key)


def _make_faults(words: list[str]) -> Iterator[str]:
    targets = [word for word in words if "=" not in word and not word.startswith("-") and "/" not in word]
    for target in targets:
        if target not in TARGETS and target != "TARGET":
            yield f"make {target}: no such target"
    for name, value in (word.split("=", 1) for word in words if "=" in word):
        if name not in VARIABLES:
            yield f"make {name}=: the Makefile has no such variable"
        elif name == "ARGS":
            yield from _args_faults(targets, value)


def _args_faults(targets: list[str], arguments: str) -> Iterator[str]:
    """Options in ARGS must be some of what a target's recipe runs."""
    recipes = "".join(TARGETS.get(target, "") for target in targets)
    known = [_options(_find(stage)) for stage in re.findall(r"\$\(RUN_STAGE\) ([\w-]+)", recipes)]
    scripts = [REPOSITORY / file for file in re.findall(r"benchmarks/\w+\.py", recipes)]
    scripts += [CLUSTER] if "RUN_CLUSTER" in recipes else []
    texts = " ".join(file.read_text(encoding="utf-8") for file in scripts)
    if "pytest" not in recipes:
        for word in shlex.split(arguments):
            if word.startswith("--") and not any(word in options for options in known) and not _takes(texts, word):
                yield f"make {' '.join(targets)}: no {word} in what it runs"


def _find(stage: str) -> Any:
    return typer.main.get_command(app).commands[stage]  # type: ignore[attr-defined]


def _options(command: Any) -> set[str]:
    own = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    return own.union(*(_options(child) for child in getattr(command, "commands", {}).values()))


def _is_option(option: str) -> bool:
    scripts = [CLUSTER, *(REPOSITORY / "benchmarks").glob("*.py")]
    known = _options(typer.main.get_command(app)) | FOREIGN_OPTIONS | {"--help"}
    return option in known or any(_takes(file.read_text(encoding="utf-8"), option) for file in scripts)


def _absent(words: list[str], text: str, what: str) -> Iterator[str]:
    for word in words:
        if word.startswith("--") and word != "--help" and not _takes(text, word.partition("=")[0]):
            yield f"{what}: no option {word}"


def _takes(source: str, option: str) -> bool:
    """Tell whether a script has an option: of argparse, or the parameter of a function that typer calls."""
    parameter = option.removeprefix("--").replace("-", "_")
    return f'"{option}"' in source or re.search(rf"^ +{parameter}: Annotated\[", source, re.MULTILINE) is not None
