#!/usr/bin/env bash
# Makes the Python messages and gRPC stubs of proto/.
#
#   bash python/generate.sh [OUTDIR]
#
# OUTDIR (default: python/src/rasterloom/_gen) is replaced as a whole. The
# output depends on proto/ and on the pinned grpcio-tools only, so that "made
# again, nothing differs" can be checked. Needs .bin/buf and .venv (make venv).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${1:-$root/python/src/rasterloom/_gen}
python=$root/.venv/bin/python
buf=$root/.bin/buf

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$root"
PATH=$(dirname "$python"):$PATH # where protoc looks for its plugins
"$buf" build --path proto/rasterloom --as-file-descriptor-set -o "$work/proto.binpb"
"$python" python/generate.py "$work/proto.binpb" "$work/out"

rm -rf "$out"
mkdir -p "$(dirname "$out")"
cp -r "$work/out/rasterloom/_gen" "$out"
