"""The habit that Rasterloom replaces: read each table with pandas, join on rounded x and y.

It computes coordinates for the tables that have none, takes zeros for missing as
its kind does, adds the shift that it is handed for the layer that is off, rounds
to 6 decimals so that equal coordinates compare equal, and merges outer.
"""

from __future__ import annotations

from functools import reduce

import pandas as pd
import pyarrow as pa
from sqlalchemy import create_engine

from bench.ways import Job

DECIMALS = 6


def _frame(job: Job) -> pd.DataFrame:
    engine = create_engine(job.database_url.replace("postgres://", "postgresql+psycopg2://", 1))
    reference = job.layers.lattice
    frames = []
    for layer in job.layers.layers:
        df = pd.read_sql(f"SELECT * FROM {layer.table}", engine)
        min_x, _, _, max_y = layer.lattice.bounds
        step_x, step_y = layer.lattice.step
        if "x_coord" not in df:
            df["x_coord"] = min_x + (df["col_idx"] + 0.5) * step_x
            df["y_coord"] = max_y - (df["row_idx"] + 0.5) * step_y
        df["x"] = (df["x_coord"] + (reference.bounds[0] - min_x)).round(DECIMALS)
        df["y"] = (df["y_coord"] + (reference.bounds[3] - max_y)).round(DECIMALS)
        df = df[df["value"].notna() & (df["value"] != 0)]
        frames.append(df[["x", "y", "value"]].rename(columns={"value": layer.column}))
    return reduce(lambda left, right: left.merge(right, on=["x", "y"], how="outer"), frames)


def to_arrow(job: Job) -> pa.Table:
    return pa.Table.from_pandas(_frame(job), preserve_index=False)


def to_parquet(job: Job) -> None:
    _frame(job).to_parquet(job.path, index=False)
