"""Settings of the documentation site: `make docs`. The source folder is the whole repository, so that every link that holds there holds here.

Nothing is fetched when a page is read: fonts are the reader's, and no page has a formula that needs a script.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "pipeline"))

import unet_pipeline  # noqa: E402

project = "unet-pipeline"
author = copyright = "The unet-pipeline authors"
release = version = unet_pipeline.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_nb",  # brings myst_parser
    "sphinx_design",
    "sphinx_copybutton",
]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/**.md",
    "bundles/README.md",
    "bundles/*/docs/*.md",
    "data/README.md",
    "notebooks/README.md",
    "notebooks/*.ipynb",
]
exclude_patterns = ["**/.*"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

myst_enable_extensions = ["colon_fence", "deflist", "html_image"]
myst_heading_anchors = 4  # as GitHub makes them
nb_execution_mode = "off"  # notebooks are committed executed
suppress_warnings = [
    "mystnb.unknown_mime_type",
    "ref.python",  # a type has two names, that of its module and the package's
    "toc.not_included",  # cards, checklists and results of benchmarks are reached from the page that lists them
]

highlight_language = "text"  # indented blocks are commands and files
autodoc_member_order = "alphabetical"
autodoc_typehints = "description"
autodoc_preserve_defaults = True
default_role = "code"
smartquotes = False  # a quotation mark is often part of a command

html_theme = "furo"
html_title = "unet-pipeline"
html_static_path = ["site/style.css"]
html_css_files = ["style.css"]
html_extra_path = ["site/index.html"]
html_copy_source = False
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True


def _leave_out_module_text(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """The page says it in its own words."""
    if what == "module":
        lines.clear()


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _leave_out_module_text)
