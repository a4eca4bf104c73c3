"""Jinja's environment of the templates, with the rules that all of them share."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from jinja2 import Environment

_PACKAGE = "unet_pipeline.evidence.report"


def create_environment(package: str = _PACKAGE) -> Environment:
    """For the `templates/` of a package: HTML and SVG are escaped, Markdown is not, and an unknown name is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader(package),
        autoescape=select_autoescape(("html", "svg")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = mark_code
    return environment


def read_part(name: str) -> Markup:
    """A style sheet or script of the templates, to be put into a page as it is."""
    return Markup((resources.files(_PACKAGE) / "templates" / name).read_text(encoding="utf-8"))


def mark_code(text: str) -> Markup:
    """Escaped text with what stands between backticks as code."""
    parts = str(escape(text)).split("`")
    if len(parts) % 2 == 0:  # a lone backtick is one
        return Markup(escape(text))
    return Markup("".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts)))
