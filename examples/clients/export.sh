#!/usr/bin/env bash
# Has the server write a merge as Parquet, for whatever reads files: R, Julia, Spark … Needs a server with --export-dir.
# usage: export.sh [URL [FILE]]; FILE is below that directory. The last line is the finished export with its manifest.
set -euo pipefail
exports=${1:-http://127.0.0.1:7400}/rasterloom.merger.v1.ExportService
merge='{"layers": [{"name": "coads_sst_jan"}, {"name": "oisst_19811231"}], "rowsKept": "ROWS_KEPT_ANY"}'

ask() { curl --silent --show-error --fail-with-body "$exports/$1" --header 'Content-Type: application/json' --data "$2"; }

started=$(ask StartExport "{\"spec\": {\"name\": \"${2:-sst.parquet}\", \"merge\": $merge}}") || { echo "$started" >&2; exit 1; }
id=$(sed -E 's/.*"id":"([a-z2-7]+)".*/\1/' <<<"$started")
while answer=$(ask GetExport "{\"id\": \"$id\"}"); [[ $answer =~ STATE_(QUEUED|RUNNING) ]]; do sleep 0.5; done
echo "$answer"
[[ $answer == *STATE_SUCCEEDED* ]]
