#!/usr/bin/env bash
# Builds the programs of an older commit, beside the checkout, and lets them and
# today's work on one database. upgrade.sh [COMMIT]; by default the last commit
# before the newest version of the catalog, so that the catalog differs, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
versions=internal/pgstore/migration/versions
if [ -n "${1:-}" ]; then
  old=$1
else
  newest=$(git log -1 --diff-filter=A --format=%H -- "$versions")
  old=$newest^
fi
if ! git rev-parse --quiet --verify "$old^{commit}" >/dev/null; then
  echo "There is no commit ${old:-before the first} in this clone: git fetch --unshallow, or name one (make upgrade OLD=…)" >&2
  exit 1
fi
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
git archive "$old" | tar -x -C "$tree"
echo "The version before: $(git log -1 --format='%h %s' "$old")"
for service in aligner schema merger; do
  (cd "$tree/services/$service" && GOWORK=off go build -o "$tree/bin/" "./cmd/$service")
done
RASTERLOOM_OLD="$tree/bin" go test -count=1 -timeout 60m -v -run '^TestUpgrade' ./test/scenario
