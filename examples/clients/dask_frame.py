"""A merge as a Dask frame: a partition for each part."""

import sys

import dask.dataframe as dd
import pandas as pd
import pyarrow as pa
from flight_reader import URL
from merge_parts import plan_parts, read_part

url = sys.argv[1] if len(sys.argv) > 1 else URL
schema, tickets = plan_parts(url)
empty = pa.ipc.read_schema(pa.py_buffer(schema)).empty_table().to_pandas()


def partition(ticket: bytes) -> pd.DataFrame:
    """Read a part, in a task."""
    return read_part(url, schema, ticket).to_pandas()


frame = dd.from_map(partition, tickets, meta=empty)
print("partitions", frame.npartitions)
print("rows", len(frame))
print("means", *frame[["coads_sst_jan", "oisst_19811231"]].mean().compute().round(3))
