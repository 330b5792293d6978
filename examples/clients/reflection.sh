#!/usr/bin/env bash
# Asks by gRPC without a contract at hand: buf learns it from the server, by reflection, which it offers on loopback only.
set -euo pipefail
url=${1:-http://127.0.0.1:7400}
layers='[{"name": "coads_sst_jan"}, {"name": "oisst_19811231"}]'

ask() { buf curl --protocol grpc "$url/$1" --data "$2"; }

buf curl --protocol grpc --list-methods "$url"
ask rasterloom.schema.v1.SchemaService/ListLayers '{"nameContains": "sst"}'
ask rasterloom.aligner.v1.AlignerService/AnalyzeAlignment "{\"layers\": $layers}"
ask rasterloom.merger.v1.MergerService/PlanMerge "{\"spec\": {\"layers\": $layers, \"rowsKept\": \"ROWS_KEPT_ANY\"}}"
