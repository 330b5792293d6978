"""Progress bars on terminals and in notebooks."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Generator

    from tqdm import tqdm

BAR = "{desc} {percentage:3.0f} %|{bar}| {postfix}"
"""Of what has no unit but its end."""

Progress = bool | Literal["auto"]


def in_notebook() -> bool:
    """Say whether this runs in a notebook's kernel; that one is imported says nothing."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def progress_bar(wanted: Progress, **options: Any) -> Generator[tqdm[Any]]:
    """Give a bar; ``"auto"`` shows it on terminals and in notebooks only.

    ``options`` are tqdm's. Of a bar that is not shown nothing is written, and
    its calls cost nothing.
    """
    shown = wanted if isinstance(wanted, bool) else sys.stderr.isatty() or in_notebook()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm warns where a notebook lacks widgets
        from tqdm.auto import tqdm
    with tqdm(disable=not shown, **options) as bar:
        yield bar
