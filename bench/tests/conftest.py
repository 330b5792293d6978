"""Puts the checkout on the path, so that ``bench`` is found from anywhere."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
