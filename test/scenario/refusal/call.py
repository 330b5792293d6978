"""Sends refusals from Python: as JSON with the standard library alone, by grpcio, and by pyarrow.

Reads a list of them, as refusal_test.go writes it, from standard input; writes
``{protocol: [{code, reason, text} or null]}``. Null: the protocol has no form for it.
"""

import base64
import gzip
import json
import re
import sys
import threading
import urllib.error
import urllib.request

import grpc
import pyarrow as pa
import pyarrow.flight as fl
from google.protobuf import json_format, message_factory, symbol_database
from google.rpc import error_details_pb2, status_pb2
from rasterloom._gen.aligner.v1 import aligner_pb2  # noqa: F401
from rasterloom._gen.merger.v1 import export_pb2, merger_pb2  # noqa: F401
from rasterloom._gen.schema.v1 import (  # noqa: F401
    coordinates_pb2,
    ingest_pb2,
    migration_pb2,
    schema_pb2,
)

url, flight = sys.argv[1:]
POOL = symbol_database.Default().pool
FLIGHT = "arrow.flight.protocol.FlightService/"
PATIENCE = 60
CODES = {code.value[0]: code.name.lower() for code in grpc.StatusCode}


def bytes_of(text):
    """Read bytes as encoding/json of Go writes them; null where there are none."""
    return base64.b64decode(text or "")


def told(status, code, text):
    """Give the outcome of a google.rpc.Status, or of a code and a text where there is none."""
    reason = ""
    if status is not None:
        parsed = status_pb2.Status.FromString(status)
        code, text = CODES[parsed.code], parsed.message
        for detail in parsed.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                reason = info.reason
    return {"code": code, "reason": reason, "text": text}


def compact(text):
    """Write JSON as the tests compare it."""
    return json.dumps(json.loads(text), separators=(",", ":"))


def by_json(case):
    """Send one by HTTP and JSON."""
    if case["method"].startswith(FLIGHT) or POOL.FindMethodByName(case["method"].replace("/", ".")).server_streaming:
        return None
    body = bytes_of(case["body"]) if case["body"] is not None else case["request"].encode()
    headers = {"Content-Type": "application/json"}
    if case["authorization"]:
        headers["Authorization"] = case["authorization"]
    if case["gzip"]:
        body = gzip.compress(body)
        headers["Content-Encoding"] = "gzip"
    request = urllib.request.Request(f"{url}/{case['method']}", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return {"code": "ok", "reason": "", "text": compact(answer.read())}
    except urllib.error.HTTPError as refused:
        error = json.load(refused)
        reason = ""
        for detail in error.get("details", []):
            if detail["type"] == "google.rpc.ErrorInfo":
                value = base64.b64decode(detail["value"] + "=" * (-len(detail["value"]) % 4))
                reason = error_details_pb2.ErrorInfo.FromString(value).reason
        return {"code": error["code"], "reason": reason, "text": error.get("message", "")}


def by_grpc(rpc, puts, case):
    """Send one by grpcio, Flight's as the bytes that they are."""
    if case["jsonOnly"]:
        return None
    answer = None
    if case["method"].startswith(FLIGHT):
        channel = puts
        messages = [bytes_of(m) for m in case["messages"] or []]
    else:
        channel = rpc
        method = POOL.FindMethodByName(case["method"].replace("/", "."))
        answer = message_factory.GetMessageClass(method.output_type)
        if case["body"] is not None:
            messages = [bytes_of(case["body"])]
        else:
            request = json_format.Parse(case["request"], message_factory.GetMessageClass(method.input_type)())
            messages = [request.SerializeToString()]
    compression = grpc.Compression.Gzip if case["gzip"] else grpc.Compression.NoCompression
    headers = [("authorization", case["authorization"])] if case["authorization"] else []
    call = channel.stream_stream("/" + case["method"])
    try:
        last = b""
        for last in call(iter(messages), timeout=PATIENCE, compression=compression, metadata=headers):
            pass
        text = compact(json_format.MessageToJson(answer.FromString(last), indent=None)) if answer else ""
        return {"code": "ok", "reason": "", "text": text}
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        return told(trailers.get("grpc-status-details-bin"), error.code().name.lower(), error.details())


class Status(fl.ClientMiddleware):
    """Keeps the status of a call, which pyarrow's exceptions do not have."""

    def __init__(self, headers):
        super().__init__()
        self.headers, self.details = headers, None

    def sending_headers(self):
        """Give what goes along."""
        return self.headers

    def received_headers(self, headers):
        """Take what comes with the answer, and at its end."""
        for value in headers.get("grpc-status-details-bin", []):
            self.details = value if isinstance(value, bytes) else value.encode("latin-1")


class Statuses(fl.ClientMiddlewareFactory):
    """Gives each thread the status of its last call."""

    def __init__(self):
        super().__init__()
        self.local = threading.local()

    def start_call(self, info):
        """Begin a call."""
        self.local.status = Status(self.local.headers)
        return self.local.status


def ask(client, case):
    """Make the call of Flight by what pyarrow has for it."""
    method = case["method"].removeprefix(FLIGHT)
    first = bytes_of(case["messages"][0]) if case["messages"] else b""
    compression = pa.ipc.IpcWriteOptions(compression=case["compression"] or None)
    options = fl.FlightCallOptions(timeout=PATIENCE, write_options=compression)
    if method == "GetFlightInfo":
        client.get_flight_info(fl.FlightDescriptor.deserialize(first), options)
    elif method == "GetSchema":
        client.get_schema(fl.FlightDescriptor.deserialize(first), options)
    elif method == "DoGet":
        client.do_get(fl.Ticket.deserialize(first), options).read_all()
    elif method == "DoAction":
        list(client.do_action(fl.Action.deserialize(first), options))
    elif method == "ListFlights":
        criteria = first[2:]  # field 1, shorter than 128 bytes
        list(client.list_flights(criteria, options))
    elif method == "ListActions":
        list(client.list_actions(options))
    else:
        source = pa.ipc.open_stream(bytes_of(case["batches"]))
        descriptor = fl.FlightDescriptor.for_command(case["request"].encode())
        writer, reader = client.do_put(descriptor, source.schema, options)
        try:
            for batch in source:
                writer.write_batch(batch)
            if case["closing"]:
                writer.write_metadata(case["closing"].encode())
            writer.done_writing()
            while reader.read() is not None:
                pass
        finally:
            writer.close()


def by_pyarrow(client, statuses, case):
    """Send one by pyarrow."""
    method = case["method"].removeprefix(FLIGHT)
    known = {"GetFlightInfo", "GetSchema", "DoGet", "DoAction", "ListFlights", "ListActions"}
    if case["method"] == method or case["noPyarrow"] or case["gzip"] or not (method in known or case["batches"]):
        return None
    statuses.local.headers = {"authorization": [case["authorization"]]} if case["authorization"] else {}
    try:
        ask(client, case)
    except (pa.ArrowException, fl.FlightError, KeyError, NotImplementedError, OSError) as error:
        details = statuses.local.status.details
        # Without details it is gRPC's own, which Arrow tells in words.
        words = re.search("returned ([a-z ]+) error", str(error))
        return told(details, words[1].replace(" ", "_") if words else type(error).__name__, str(error))
    return {"code": "ok", "reason": "", "text": ""}


cases = json.load(sys.stdin)
statuses = Statuses()
options = [("grpc.enable_http_proxy", 0)]
with (
    grpc.insecure_channel(url.removeprefix("http://"), options) as rpc,
    grpc.insecure_channel(flight, options) as puts,
    fl.connect(f"grpc://{flight}", middleware=[statuses], generic_options=options) as client,
):
    outcomes = {
        "Python JSON": [by_json(case) for case in cases],
        "Python gRPC": [by_grpc(rpc, puts, case) for case in cases],
        "pyarrow": [by_pyarrow(client, statuses, case) for case in cases],
    }
json.dump(outcomes, sys.stdout)
