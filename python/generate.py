"""Turns a compiled descriptor set into the package rasterloom._gen.

Two things are changed in the descriptors before protoc sees them, so that
nothing has to be patched in the code that it writes:

- The rules of buf.validate are dropped: the server checks them, and the client
  would otherwise need their runtime.
- Files move from rasterloom/ to rasterloom/_gen/, which is where Python has to
  import them from. Message and service names stay as they are.

Usage: python generate.py DESCRIPTOR_SET OUTDIR
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

RULES = "buf/validate/"
OURS = "rasterloom/"
MOVED = "rasterloom/_gen/"


def main(descriptor_set: Path, out: Path) -> None:
    """Write the package to ``out``."""
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set.read_bytes())
    kept = [file for file in files.file if not file.name.startswith(RULES)]
    for file in kept:
        file.name = moved(file.name)
        imports = [moved(name) for name in file.dependency if not name.startswith(RULES)]
        del file.dependency[:]
        file.dependency.extend(imports)
        drop_custom_options(file)
    prepared = out.parent / "prepared.binpb"
    prepared.write_bytes(descriptor_pb2.FileDescriptorSet(file=kept).SerializeToString())

    out.mkdir(parents=True)
    names = sorted(file.name for file in kept if file.name.startswith(MOVED))
    with_services = sorted(file.name for file in kept if file.service)
    run(prepared, [f"--python_out={out}", f"--pyi_out={out}"], names)
    run(prepared, [f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}"], with_services)

    package = out / MOVED
    for folder in sorted({package, *(path.parent for path in package.rglob("*.py"))}):
        for place in (folder, *folder.parents):
            if place == out / "rasterloom":
                break
            (place / "__init__.py").write_text('"""Generated from proto/ by python/generate.sh; do not edit."""\n')


def moved(name: str) -> str:
    """Where a file of the contract lies in the Python package."""
    return MOVED + name.removeprefix(OURS) if name.startswith(OURS) else name


def drop_custom_options(message: Message) -> None:
    """Remove the options that this process has no definition of, everywhere.

    ``google.protobuf.*Options`` keep what they define themselves, such as
    ``idempotency_level``; extensions are unknown fields here.
    """
    message.DiscardUnknownFields()
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        parts: Iterable[Message] = value if field.is_repeated else [value]
        for part in parts:
            drop_custom_options(part)


def run(descriptors: Path, outputs: list[str], names: list[str]) -> None:
    """Run protoc over ``names``."""
    arguments = ["protoc", f"--descriptor_set_in={descriptors}", *outputs, *names]
    if code := protoc.main(arguments):
        sys.exit(f"protoc ended with code {code}: {' '.join(arguments)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
