#!/usr/bin/env bash
# Asks as reflection.sh does, by grpcurl. It takes HOST:PORT where the other programs take a URL.
set -euo pipefail
url=${1:-http://127.0.0.1:7400}
server=${url#http://}
layers='[{"name": "coads_sst_jan"}, {"name": "oisst_19811231"}]'

ask() { grpcurl -plaintext -d "$2" "$server" "$1"; }

grpcurl -plaintext "$server" list
ask rasterloom.schema.v1.SchemaService/ListLayers '{"nameContains": "sst"}'
ask rasterloom.aligner.v1.AlignerService/AnalyzeAlignment "{\"layers\": $layers}"
ask rasterloom.merger.v1.MergerService/PlanMerge "{\"spec\": {\"layers\": $layers, \"rowsKept\": \"ROWS_KEPT_ANY\"}}"
