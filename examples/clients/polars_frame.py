"""A merge as a polars frame."""

import sys

import polars as pl
from content_hash import ContentHash
from flight_reader import SPEC, URL, open_merge

reader = open_merge(sys.argv[1] if len(sys.argv) > 1 else URL, SPEC)
frame = pl.DataFrame(reader.read_all())
print("rows", frame.height)
print("hash", ContentHash(reader.schema).update(frame.to_arrow()))
print("means", *frame.select(pl.col("coads_sst_jan", "oisst_19811231").mean().round(3)).row(0))
