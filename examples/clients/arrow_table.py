"""A merge as a pyarrow table, and from there to pandas, numpy or a file."""

import sys

from content_hash import ContentHash
from flight_reader import SPEC, URL, open_merge

reader = open_merge(sys.argv[1] if len(sys.argv) > 1 else URL, SPEC)
table = reader.read_all()
print("rows", table.num_rows)
print("hash", ContentHash(reader.schema).update(table))
