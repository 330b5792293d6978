"""Reads a merge by plain pyarrow Flight: whole, or not at all."""

import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.flight as fl
from content_hash import ContentHash

URL = "grpc://127.0.0.1:7401"
SPEC = {"layers": [{"name": "coads_sst_jan"}, {"name": "oisst_19811231"}], "rowsKept": "ROWS_KEPT_ANY"}


class IncompleteError(Exception):
    """A stream ended without proof that it is whole."""


def open_merge(url: str, spec: dict) -> pa.RecordBatchReader:
    """Give the rows of a merge, batch by batch and in order. Errors come while it is read, the last one at its end."""
    client = fl.connect(url)
    info = client.get_flight_info(fl.FlightDescriptor.for_command(json.dumps(spec).encode()))

    def batches() -> Iterator[pa.RecordBatch]:
        for endpoint in info.endpoints:  # north to south
            yield from whole(client.do_get(endpoint.ticket), info.schema)

    return pa.RecordBatchReader.from_batches(info.schema, batches())


def whole(stream: fl.FlightStreamReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Give the batches of one endpoint. Without a trailer that counts and hashes the same rows: IncompleteError."""
    seen, trailer = ContentHash(schema), None
    for chunk in stream:
        if chunk.data.num_rows:
            seen.update(chunk.data)
            yield chunk.data
        elif (said := json.loads(chunk.app_metadata.to_pybytes()))["complete"]:
            trailer = said  # a batch without rows that says false is a sign of life
    if trailer is None:
        raise IncompleteError(f"the stream ended after {seen.rows} rows without a trailer")
    if (trailer["rows"], trailer["hash"]) != (seen.rows, str(seen)):
        raise IncompleteError(f"{seen.rows} rows of {seen} came, {trailer['rows']} of {trailer['hash']} were sent")
