"""A merge as a Ray dataset: a block for each part."""

import sys

import ray
from flight_reader import URL
from merge_parts import plan_parts, read_part

url = sys.argv[1] if len(sys.argv) > 1 else URL
schema, tickets = plan_parts(url)

blocks = [ray.remote(read_part).remote(url, schema, ticket) for ticket in tickets]
dataset = ray.data.from_arrow_refs(blocks)

means = dataset.mean(["coads_sst_jan", "oisst_19811231"])
print("partitions", dataset.num_blocks())
print("rows", dataset.count())
print("means", *(round(mean, 3) for mean in means.values()))
