"""Read layers of a running suite through networks of several speeds, compressed and not.

The network is a proxy on this machine that lets answers through at a rate.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import time
import warnings
from contextlib import suppress
from urllib.parse import urlsplit

import rasterloom as rl

RATES = {"loopback": None, "1 Gbit/s": 125e6, "100 Mbit/s": 12.5e6}  # bytes a second
CODECS = ("none", "lz4", "zstd")


def proxy(target: tuple[str, int], rate: float) -> int:
    """Listen on a free port, and forward to an address; what comes back has a rate."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket, limit: float | None) -> None:
        due = time.monotonic()
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if limit is not None:
                    now = time.monotonic()
                    due = max(due, now - 0.005) + len(data) / limit
                    time.sleep(max(0.0, due - now))
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(target)
            for args in ((client, server, None), (server, client, rate)):
                threading.Thread(target=pump, args=args, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def seconds(url: str, flight: str, layers: list[str], codec: rl.client.Compression) -> float:
    """Read a merge once, and drop it."""
    with rl.connect(url, flight=flight) as loom:
        merge = loom.merge(layers, compression=codec, progress=False)
        _ = merge.plan
        began = time.monotonic()
        for _ in merge.to_batches():
            pass
        return time.monotonic() - began


def main() -> None:
    """Print the least of three times for each network and codec."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:7400")
    parser.add_argument("layers", nargs="+")
    said = parser.parse_args()
    warnings.simplefilter("ignore", rl.AlignmentWarning)
    with rl.connect(said.url) as loom:
        flight = loom.merge(said.layers).plan.flight_uri
    address = urlsplit(flight)
    target = (address.hostname or "", address.port or 0)
    for name, rate in RATES.items():
        uri = flight if rate is None else f"grpc://127.0.0.1:{proxy(target, rate)}"
        times = [min(seconds(said.url, uri, said.layers, codec) for _ in range(3)) for codec in CODECS]
        told = "  ".join(f"{codec} {took:.2f} s" for codec, took in zip(CODECS, times, strict=True))
        sys.stdout.write(f"{name:>10}  {told}\n")


if __name__ == "__main__":
    main()
