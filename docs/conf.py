"""How Sphinx builds these pages: `make docs` writes build/docs/html, offline, and lets no warning pass."""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generated_pages  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

from genre_spark import __version__  # noqa: E402

project = "genre_spark"
author = "the genre_spark authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# Addresses of other sites' documentation would be fetched (intersphinx), so names there are no links.
nitpicky = False
# `--set` is two hyphens.
smartquotes = False

html_theme = "furo"
html_title = f"genre_spark {__version__}"
html_static_path: list[str] = []
html_show_sourcelink = False
html_copy_source = False

# GitHub's anchors, so that a link into a page holds there and here.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

# Docstrings are numpydoc, with names in single backticks.
default_role = "literal"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_param = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}


def _fill_in(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = generated_pages.filled(page, source[0])


def _as_rst(app: Sphinx, what: str, name: str, object_: object, options: object, lines: list[str]) -> None:
    """Mark up what docstrings write plainly: layouts of folders, stars and bars that are no markup."""
    text = "\n".join(lines)
    text = "".join(
        part if part.startswith("`") else re.sub(r"([*|])", r"\\\1", part) for part in re.split(r"(`+[^`]+`+)", text)
    )
    if what == "module":
        text = re.sub(r"\n\n(?=    \S)", "\n\n.. code-block:: text\n\n", text)
    lines[:] = text.split("\n")


def setup(app: Sphinx) -> None:
    """Write the pages that are made of the program itself when they are read, and read them anew each time."""
    app.connect("source-read", _fill_in)
    # Before napoleon, which makes sections of what is left.
    app.connect("autodoc-process-docstring", _as_rst, priority=400)
    app.connect("env-before-read-docs", lambda app, env, docs: docs.extend(sorted(generated_pages.PAGES - set(docs))))
