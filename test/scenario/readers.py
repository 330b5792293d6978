"""Reads streams in pyarrow's ways, for the tests of faults: a JSON line in for each, a JSON line out.

In: ``{"id", "way", "uri", "info"}``, the FlightInfo in base64. Ways: ``read_all`` and
``to_reader``, as any program would, ``client``, as ours does, and ``stall``, which
takes one batch and no more. Out: ``{"id", "rows", "resumed", "error"}``; error is empty
where the reader took what it got for a whole table, and resumed is how often it went on
behind a stream that broke.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
from typing import Any

import pyarrow.flight as fl
import rasterloom.stream
from rasterloom.stream import FlightSource

# A stream whose every connection is cut at once is given up soon: there are many of them.
rasterloom.stream.MAX_FAILURES = 1

OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
lock = threading.Lock()


class CountingSource(FlightSource):
    """Our client, which also says how often it went on behind a stream that broke."""

    resumed = 0

    def _resumed(self, *arguments: Any, **options: Any) -> fl.Ticket:
        ticket = super()._resumed(*arguments, **options)
        self.resumed += 1
        return ticket


def read(way: str, uri: str, info: fl.FlightInfo, answer: dict[str, Any]) -> int:
    """Give the number of rows of a flight."""
    if way == "client":
        source = CountingSource(uri, 60)
        try:
            return sum(batch.num_rows for batch in source.batches(info))
        finally:
            answer["resumed"] = source.resumed
            source.close()
    with fl.connect(uri, generic_options=OPTIONS) as client:
        reader = client.do_get(info.endpoints[0].ticket)
        if way == "read_all":
            return reader.read_all().num_rows
        if way == "to_reader":
            return sum(batch.num_rows for batch in reader.to_reader())
        reader.read_chunk()
        say({"id": -1})
        threading.Event().wait()
        return 0


def say(answer: dict[str, Any]) -> None:
    """Write an answer."""
    with lock:
        print(json.dumps(answer), flush=True)


def serve(request: dict[str, Any]) -> None:
    """Read what is asked for and answer."""
    answer: dict[str, Any] = {"id": request["id"], "rows": 0, "resumed": 0, "error": ""}
    try:
        info = fl.FlightInfo.deserialize(base64.b64decode(request["info"]))
        answer["rows"] = read(request["way"], request["uri"], info, answer)
    except BaseException as error:  # noqa: BLE001 - whatever a reader raises, it has not accepted the table
        answer["error"] = f"{type(error).__name__}: {error}"[:300]
    say(answer)


for line in sys.stdin:
    threading.Thread(target=serve, args=(json.loads(line),), daemon=True).start()
