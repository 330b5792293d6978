"""The other ends of BenchmarkLoopback: pyarrow's C++ server, and a client.

``loopback.py serve BATCHES`` serves so many batches and prints its port.
``loopback.py read`` reads the whole of what each port on a line of its input
serves, and prints seconds, rows and bytes.
"""

import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.flight as fl

ROWS, COLUMNS = 1 << 16, 6


class Server(fl.FlightServerBase):
    """Serves one table."""

    def __init__(self, batches: int) -> None:
        super().__init__("grpc://127.0.0.1:0")
        values = np.arange(ROWS, dtype=np.float64)
        one = pa.record_batch({f"c{i}": values + i for i in range(COLUMNS)})
        self.table = pa.Table.from_batches([one] * batches)

    def do_get(
        self, context: fl.ServerCallContext, ticket: fl.Ticket
    ) -> fl.RecordBatchStream:
        return fl.RecordBatchStream(self.table)


def read(port: str) -> None:
    """Read all of it, and let it go."""
    rows = size = 0
    with fl.connect(f"grpc://127.0.0.1:{port}") as client:
        began = time.perf_counter()
        for chunk in client.do_get(fl.Ticket(b"")):
            rows += chunk.data.num_rows
            size += chunk.data.nbytes
        seconds = time.perf_counter() - began
    print(seconds, rows, size, flush=True)


if sys.argv[1] == "serve":
    with Server(int(sys.argv[2])) as server:
        print(server.port, flush=True)
        server.serve()
else:
    for line in sys.stdin:
        read(line.strip())
