#!/usr/bin/env bash
# Makes all generated code again, beside the checkout, and fails where it
# differs from what is committed. Changes nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
stale=0

same() { # same WHAT COMMITTED FRESH
  if ! diff -r -q -x __pycache__ "$2" "$3"; then
    echo "$1 is stale: run make generate" >&2
    stale=1
  fi
}

(cd tools/protoc && GOWORK=off go run ./vendorproto "$fresh/proto")
same 'proto/buf' proto/buf "$fresh/proto/buf"

if ! buf format -d --exit-code --path proto/rasterloom; then
  echo 'proto/rasterloom is not formatted: run make generate' >&2
  stale=1
fi

buf generate -o "$fresh"
same 'the Go code in gen/' gen "$fresh/gen"

buf build -o - | (cd tools/protoc && GOWORK=off go run ./reference "$fresh/rpc")
same 'docs/reference/rpc' docs/reference/rpc "$fresh/rpc"

bash python/generate.sh "$fresh/python"
same 'the Python code in python/src/rasterloom/_gen' python/src/rasterloom/_gen "$fresh/python"

# Not those of tools/: to tidy them, Go would fetch whatever the linters' own
# tests need.
for module in $(find . -name go.mod -not -path './tools/*' -not -path './.*'); do
  if ! (cd "$(dirname "$module")" && GOWORK=off go mod tidy -diff >/dev/null); then
    echo "$module is not tidy: run GOWORK=off go mod tidy there" >&2
    stale=1
  fi
done
if [ "$stale" = 0 ]; then
  echo 'fresh'
fi
exit "$stale"
