"""Sends refusals from Python: as JSON with the standard library alone, and by grpcio.

Reads a list of {name, method, request, gzip} from standard input; writes {protocol: [{code, reason, text}]}.
"""

import base64
import gzip
import json
import sys
import urllib.error
import urllib.request

import grpc
from google.protobuf import json_format, message_factory, symbol_database
from google.rpc import error_details_pb2, status_pb2
from rasterloom._gen.schema.v1 import (  # noqa: F401
    coordinates_pb2,
    ingest_pb2,
    migration_pb2,
    schema_pb2,
)

url = sys.argv[1]
POOL = symbol_database.Default().pool


def by_json(case):
    """Send one by HTTP and JSON."""
    body = case["request"].encode()
    headers = {"Content-Type": "application/json"}
    if case["gzip"]:
        body = gzip.compress(body)
        headers["Content-Encoding"] = "gzip"
    request = urllib.request.Request(f"{url}/{case['method']}", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return {"code": "ok", "reason": "", "text": json.dumps(json.load(answer), separators=(",", ":"))}
    except urllib.error.HTTPError as refused:
        error = json.load(refused)
        reason = ""
        for detail in error.get("details", []):
            if detail["type"] == "google.rpc.ErrorInfo":
                value = base64.b64decode(detail["value"] + "=" * (-len(detail["value"]) % 4))
                reason = error_details_pb2.ErrorInfo.FromString(value).reason
        return {"code": error["code"], "reason": reason, "text": error.get("message", "")}


def by_grpc(channel, case):
    """Send one by grpcio."""
    method = POOL.FindMethodByName(case["method"].replace("/", "."))
    request = json_format.Parse(case["request"], message_factory.GetMessageClass(method.input_type)())
    answer = message_factory.GetMessageClass(method.output_type)
    call = channel.unary_unary("/" + case["method"], lambda m: m.SerializeToString(), answer.FromString)
    compression = grpc.Compression.Gzip if case["gzip"] else grpc.Compression.NoCompression
    try:
        text = json_format.MessageToJson(call(request, timeout=60, compression=compression), indent=None)
        return {"code": "ok", "reason": "", "text": json.dumps(json.loads(text), separators=(",", ":"))}
    except grpc.RpcError as error:
        reason = ""
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                for detail in status_pb2.Status.FromString(value).details:
                    info = error_details_pb2.ErrorInfo()
                    if detail.Unpack(info):
                        reason = info.reason
        return {"code": error.code().name.lower(), "reason": reason, "text": error.details()}


cases = json.load(sys.stdin)
with grpc.insecure_channel(url.removeprefix("http://")) as channel:
    outcomes = {
        "Python JSON": [by_json(case) for case in cases],
        "Python gRPC": [by_grpc(channel, case) for case in cases],
    }
json.dump(outcomes, sys.stdout)
