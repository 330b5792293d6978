"""What the run says while it runs, on standard error."""

from __future__ import annotations

import sys
import time

_began = time.monotonic()


def tell(text: str) -> None:
    """Say a line, with the minutes and seconds since the start."""
    minutes, seconds = divmod(time.monotonic() - _began, 60)
    print(f"{minutes:3.0f}:{seconds:02.0f}  {text}", file=sys.stderr, flush=True)
