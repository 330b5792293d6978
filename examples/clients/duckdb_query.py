"""A merge as a DuckDB table: DuckDB pulls the batches itself, and holds no more of them than it works on."""

import sys

import duckdb
from content_hash import ContentHash
from flight_reader import SPEC, URL, open_merge

reader = open_merge(sys.argv[1] if len(sys.argv) > 1 else URL, SPEC)
database = duckdb.connect()
database.execute("CREATE TABLE merged AS SELECT * FROM reader")
stored = database.sql("SELECT * FROM merged ORDER BY y DESC, x").to_arrow_table()
print("rows", stored.num_rows)
print("hash", ContentHash(reader.schema).update(stored))
means = database.sql("SELECT round(avg(coads_sst_jan), 3), round(avg(oisst_19811231), 3) FROM merged").fetchall()[0]
print("means", *means)
