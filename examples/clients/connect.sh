#!/usr/bin/env bash
# Asks all three services by curl: the Connect protocol is JSON by POST. The answers are one line of JSON each.
set -euo pipefail
url=${1:-http://127.0.0.1:7400}
layers='[{"name": "coads_sst_jan"}, {"name": "oisst_19811231"}]'

ask() {
  curl --silent --show-error --fail-with-body "$url/$1" --header 'Content-Type: application/json' --data "$2"
  echo
}

ask rasterloom.schema.v1.SchemaService/ListLayers '{"nameContains": "sst"}'
ask rasterloom.aligner.v1.AlignerService/AnalyzeAlignment "{\"layers\": $layers}"
ask rasterloom.merger.v1.MergerService/PlanMerge "{\"spec\": {\"layers\": $layers, \"rowsKept\": \"ROWS_KEPT_ANY\"}}"
