"""A merge as a Spark frame: a partition for each part."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from flight_reader import URL
from merge_parts import plan_parts, read_part
from pyspark.sql import SparkSession
from pyspark.sql.functions import mean
from pyspark.sql.pandas.types import from_arrow_schema

url = sys.argv[1] if len(sys.argv) > 1 else URL
schema, tickets = plan_parts(url)
spark = SparkSession.builder.getOrCreate()
for module in ("merge_parts", "flight_reader", "content_hash"):
    spark.sparkContext.addPyFile(str(Path(__file__).with_name(f"{module}.py")))


def partition(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Read parts, in a task."""
    for batch in batches:
        for ticket in batch["ticket"].to_pylist():
            yield from read_part(url, schema, ticket).to_batches()


work = spark.createDataFrame([(ticket,) for ticket in tickets], "ticket binary").repartition(len(tickets))
frame = work.mapInArrow(partition, from_arrow_schema(pa.ipc.read_schema(pa.py_buffer(schema))))

means = frame.select(mean("coads_sst_jan"), mean("oisst_19811231")).first()
print("partitions", frame.rdd.getNumPartitions())
print("rows", frame.count())
print("means", *(round(value, 3) for value in means))
spark.stop()
