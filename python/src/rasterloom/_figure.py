"""Pictures that a notebook shows. Imports matplotlib: import this module where a picture is asked for."""

# matplotlib is typed in part only.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from io import BytesIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


class Picture(Figure):
    """A figure of its own, which pyplot does not manage.

    A notebook learns how to show figures only once pyplot has made one; this
    one shows itself before that, too.
    """

    def _repr_png_(self) -> bytes:
        out = BytesIO()
        self.savefig(out, format="png", metadata={"Software": None})
        return out.getvalue()


def picture(width: float, height: float) -> Picture:
    """Make an empty picture, its size in inches."""
    figure = Picture(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
