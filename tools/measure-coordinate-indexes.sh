#!/usr/bin/env bash
# Measures which index coordinates should have: none, btree or BRIN, on tables
# of indices and coordinates and on tables of coordinates alone, written row by
# row and window by window. docs/coordinate-storage.md has the results and what
# follows.
#
#   bash tools/measure-coordinate-indexes.sh postgres://… [SIDE [ROUNDS]]
#
# SIDE (2048) is the number of rows and columns, a multiple of 256, ROUNDS (4)
# how often each query is measured, in turns with the same query on the other
# tables. What is printed is CPU time of the server's process, without parallel
# workers, since other work on the machine adds nothing to it: the least of the
# rounds, and its ratio to that without an index. So the server must run on this
# machine, which must be Linux. Needs psql 14 or newer, and makes and drops the
# schema rasterloom_measure.
set -euo pipefail

url=$1
side=${2:-2048}
rounds=${3:-4}
export PGOPTIONS='-c jit=off -c client_min_messages=warning -c max_parallel_workers_per_gather=0'

sql() { psql -X -q -A -t -v ON_ERROR_STOP=1 -c "$1" "$url"; }

# Milliseconds of CPU that a statement takes in the server, each of so many times.
# The clock ticks every 10 ms, so what is short is repeated.
ms() { # ms TIMES STATEMENT
  local ticks="\\! awk '{print \$14 + \$15}' /proc/\$BACKEND/stat"
  {
    printf '%s\n' 'SELECT pg_backend_pid() AS pid \gset' '\setenv BACKEND :pid' "$ticks"
    for _ in $(seq "$1"); do printf '%s;\n' "$2"; done
    printf '%s\n' "$ticks"
  } | psql -X -q -A -t -v ON_ERROR_STOP=1 -o /dev/null "$url" |
    awk -v n="$1" -v hz="$(getconf CLK_TCK)" 'NR == 1 {a = $1} {b = $1} END {print (b - a) * 1000 / hz / n}'
}
# Rows are made, in their order, and not sent.
read_ms() { ms "$1" "SELECT count(value) FROM ($2 OFFSET 0) s"; }

least() { sort -n | head -1; }

plan() { sql "EXPLAIN $1" | grep -oE '(Incremental Sort|Sort|Gather Merge|Gather|Seq Scan|Bitmap Heap Scan|Index Only Scan( Backward)?|Index Scan( Backward)?) .*\(cost' | sed -E 's/ (on|using) .*| +\(cost.*//' | paste -sd '<' | sed 's/</ < /g'; }

sql 'DROP SCHEMA IF EXISTS rasterloom_measure CASCADE; CREATE SCHEMA rasterloom_measure'
trap 'sql "DROP SCHEMA IF EXISTS rasterloom_measure CASCADE"' EXIT

# Cells of 10 × 10 from the corner (0, 0), by centres, as the formula gives them.
cell='r, c, (c + 0.5::float8) * 10, 0 - (r + 0.5::float8) * 10, (r * 7919 + c) % 1000'
by_row="SELECT $cell FROM generate_series(0, $side - 1) r, generate_series(0, $side - 1) c"
by_window="SELECT $cell FROM generate_series(0, $side / 256 - 1) wr, generate_series(0, $side / 256 - 1) wc,
  LATERAL (SELECT wr * 256 + i AS r, wc * 256 + j AS c FROM generate_series(0, 255) i, generate_series(0, 255) j) w"
# The head of the same, a quarter, for the cost of inserting.
part="SELECT $cell FROM generate_series(0, $side / 4 - 1) r, generate_series(0, $side - 1) c"

# A window of 256 × 256 cells off the blocks' edges, a band of 128 whole rows, and
# all, each in the order that the merger reads in.
at=$((side / 2 - 100))
x_range="x_coord >= $((at * 10))::float8 AND x_coord < $(((at + 256) * 10))::float8"
y_range="y_coord > -$(((at + 256) * 10))::float8 AND y_coord <= -$((at * 10))::float8"
y_band="y_coord > -$(((at + 128) * 10))::float8 AND y_coord <= -$((at * 10))::float8"

# One table for each index, all of the same rows in the same order, and the
# queries in turns, so that whatever else the machine does hits all alike.
measure() { # measure NAME WHICH ROWS INDEX…; WHICH is places (coordinates alone) or cells (beside indices)
  local name=$1 which=$2 rows=$3 columns definition
  shift 3
  if [ "$which" = places ]; then
    columns='x_coord, y_coord, value' definition='x_coord float8, y_coord float8, value float8'
  else
    columns='row_idx, col_idx, x_coord, y_coord, value'
    definition='row_idx int, col_idx int, x_coord float8, y_coord float8, value float8, PRIMARY KEY (row_idx, col_idx)'
  fi
  local times
  times=$(mktemp -d)
  local i index t
  for i in $(seq $#); do
    index=${!i}
    for t in whole part; do
      sql "CREATE TABLE rasterloom_measure.${t}_$i ($definition)"
      [ "$t" = whole ] && sql "INSERT INTO rasterloom_measure.whole_$i SELECT $columns FROM ($rows) s (row_idx, col_idx, x_coord, y_coord, value)"
      [ "$index" = none ] || sql "CREATE INDEX ${t}_${i}_measured ON rasterloom_measure.${t}_$i USING $index"
    done
    sql "VACUUM ANALYZE rasterloom_measure.whole_$i"
  done
  local round question table
  for round in $(seq 0 "$rounds"); do # the first one warms up
    for question in window band all insert; do
      for i in $(seq $#); do
        table=rasterloom_measure.whole_$i
        if [ "$question" = insert ]; then
          sql "TRUNCATE rasterloom_measure.part_$i"
          ms 1 "INSERT INTO rasterloom_measure.part_$i SELECT $columns FROM ($part) s (row_idx, col_idx, x_coord, y_coord, value)"
        else
          read_ms "$([ "$question" = all ] && echo 1 || echo 8)" "$(ask "$question" "$which" "$table")"
        fi >"$times/once"
        [ "$round" = 0 ] || cat "$times/once" >>"$times/$question.$i"
      done
    done
  done
  for i in $(seq $#); do
    index=${!i}
    local bytes=0
    [ "$index" = none ] || bytes=$(sql "SELECT pg_relation_size('rasterloom_measure.whole_${i}_measured')")
    printf '| %s | %s |' "$name" "$index"
    for question in window band all insert; do
      awk "BEGIN {printf \" %.0f (%.2f) |\", $(least <"$times/$question.$i"), $(least <"$times/$question.$i") / $(least <"$times/$question.1")}"
    done
    printf ' %s | %s |\n' "$(awk "BEGIN {printf \"%.1f\", $bytes / $side / $side}")" "$(plan "$(ask window "$which" "rasterloom_measure.whole_$i")")"
    sql "DROP TABLE rasterloom_measure.whole_$i, rasterloom_measure.part_$i"
  done
  rm -r "$times"
}

ask() { # ask QUESTION WHICH TABLE
  case $2.$1 in
    places.window) echo "SELECT y_coord, x_coord, value FROM $3 WHERE $y_range AND $x_range ORDER BY y_coord DESC, x_coord" ;;
    places.band) echo "SELECT y_coord, x_coord, value FROM $3 WHERE $y_band ORDER BY y_coord DESC, x_coord" ;;
    places.all) echo "SELECT y_coord, x_coord, value FROM $3 ORDER BY y_coord DESC, x_coord" ;;
    # What SQL users ask by coordinates; the merger reads by row_idx and col_idx.
    cells.window) echo "SELECT x_coord, y_coord, value FROM $3 WHERE $y_range AND $x_range" ;;
    cells.band) echo "SELECT x_coord, y_coord, value FROM $3 WHERE $y_band" ;;
    cells.all) echo "SELECT row_idx, col_idx, value FROM $3 ORDER BY row_idx, col_idx" ;;
  esac
}

echo "$(sql 'SELECT version()' | cut -d, -f1), shared_buffers $(sql 'SHOW shared_buffers'), work_mem $(sql 'SHOW work_mem'), $side × $side cells, $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg)"
echo
echo '| table | index | window ms (ratio) | band ms | all ms | insert ms | index bytes a row | plan of the window |'
echo '| --- | --- | --- | --- | --- | --- | --- | --- |'
for order in by_row by_window; do
  measure "coordinates alone, written ${order/_/ }" places "${!order}" none 'btree (y_coord, x_coord)' 'btree (y_coord DESC, x_coord)' \
    'btree (x_coord, y_coord)' 'brin (y_coord, x_coord)'
done
for order in by_row by_window; do
  measure "beside indices, written ${order/_/ }" cells "${!order}" none 'btree (y_coord, x_coord)' 'brin (y_coord, x_coord)'
done
echo
echo "load at the end $(cut -d' ' -f1 /proc/loadavg)"
