"""What the verbs return shows itself: one line as text, a short page in a notebook, and the same page as a file.

What each kind of result shows is in `unet_pipeline.views`.
"""

from __future__ import annotations

import tempfile
import webbrowser
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# above all stages, since it draws what any of them returns: it is loaded when something is shown, and no stage depends on it
_VIEWS = "unet_pipeline.views.page"


class Result:
    """Something that a verb returns."""

    def __repr__(self) -> str:
        try:
            return str(_views().describe_in_a_line(self))
        except Exception:  # a debugger shows objects that are half built too, and must not fail at it
            return object.__repr__(self)

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        return str(_views().build_fragment(self))

    def figures(self) -> tuple[Figure, ...]:
        """Its pictures as figures of matplotlib, drawn anew; none where there is nothing to draw.

        Raises:
            PipelineError: a file that is to be drawn is no longer there, or damaged.
        """
        return tuple(_views().draw_figures(self))

    def save_as_html(self, path: Path | str) -> Path:
        """Write its page: one file that needs no network; returns where it is."""
        return Path(_views().write_page(self, Path(path)))

    def open_in_browser(self, path: Path | str | None = None) -> Path:
        """Write its page and show it in the browser; returns where it is.

        Args:
            path: of the page; a file in the folder for temporary files, which stays there, if None.
        """
        if path is None:
            folder = tempfile.mkdtemp(prefix="unet-pipeline-")
            path = Path(folder) / f"{type(self).__name__}.html"
        page = self.save_as_html(path)
        webbrowser.open(page.resolve().as_uri())
        return page


def _views() -> Any:
    return import_module(_VIEWS)
