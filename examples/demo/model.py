"""A small model on the table of North Carolina: July's temperature from place, height and land.

Neighbouring cells are alike, so a score on cells drawn at random flatters: the
model has seen the neighbours. Cells are split by blocks of one degree instead,
and every block is predicted by a model that never saw it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import GroupKFold, cross_val_predict

TARGET = "nc_tas_07"
PLACE = ("x", "y")
RESAMPLED = ("elevation", "land")
FOLDS = 5


@dataclass(frozen=True)
class Score:
    """How well cells of unseen blocks are predicted.

    r2 : share of the variance that is explained
    error : mean absolute error, in the unit of the target
    predicted : a value for each row
    """

    features: tuple[str, ...]
    r2: float
    error: float
    predicted: np.ndarray


def columns(table: pa.Table, names: tuple[str, ...]) -> np.ndarray:
    """Give columns as an array of shape (rows, len(names))."""
    return np.column_stack([table.column(name).to_numpy() for name in names])


def blocks(table: pa.Table) -> np.ndarray:
    """Give a number to the block of one degree that each row lies in."""
    x, y = np.floor(columns(table, PLACE)).T
    return (x * 1000 + y).astype(int)


def score(table: pa.Table, features: tuple[str, ...]) -> Score:
    """Predict every row by a model that saw none of its block."""
    target = table.column(TARGET).to_numpy()
    predicted = cross_val_predict(
        LinearRegression(), columns(table, features), target, groups=blocks(table), cv=GroupKFold(FOLDS)
    )
    return Score(features, float(r2_score(target, predicted)), float(mean_absolute_error(target, predicted)), predicted)


def lapse_rate(table: pa.Table) -> float:
    """Fit all rows, and give by how many degrees the temperature changes with a kilometre of height."""
    features = (*PLACE, *RESAMPLED)
    fitted = LinearRegression().fit(columns(table, features), table.column(TARGET).to_numpy())
    return float(fitted.coef_[features.index("elevation")] * 1000)
