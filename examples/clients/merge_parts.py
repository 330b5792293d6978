"""A merge cut into parts that tasks read apart: on other threads, processes or machines.

A ticket is bytes. The one who plans gives each task a ticket and the schema; a
task needs no more than pyarrow, numpy, xxhash, and a way to the server.
"""

import json

import pyarrow as pa
import pyarrow.flight as fl
from flight_reader import SPEC, URL, whole

PARTS = 4


def plan_parts(url: str = URL, spec: dict = SPEC, parts: int = PARTS) -> tuple[bytes, list[bytes]]:
    """Give the schema, serialised, and a ticket for each part, from north to south.

    There may be fewer than asked for: never more than the lattice has rows.
    """
    descriptor = fl.FlightDescriptor.for_command(json.dumps(spec | {"endpoints": parts}).encode())
    with fl.connect(url) as client:
        info = client.get_flight_info(descriptor)
    return info.schema.serialize().to_pybytes(), [endpoint.ticket.ticket for endpoint in info.endpoints]


def read_part(url: str, schema: bytes, ticket: bytes) -> pa.Table:
    """Read one part, proved whole: IncompleteError otherwise, so that the task is tried again and nothing is short."""
    columns = pa.ipc.read_schema(pa.py_buffer(schema))
    with fl.connect(url) as client:
        return pa.Table.from_batches(list(whole(client.do_get(fl.Ticket(ticket)), columns)), schema=columns)
