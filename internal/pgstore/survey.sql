-- How do the stored cells lie on the grid?
--
-- $1 origin_x, $2 origin_y (outer north-west corner), $3 step_x, $4 step_y,
-- $5 rows, $6 cols, $7 tolerance in pixels, $8 whether the table has indices.
-- One row of counts. One pass over the cells; the caller puts in the query that
-- gives them, with the columns row_idx, col_idx (int8) and x, y (float8).
--
-- px and py are positions in pixels, from the origin to the east and south.
-- The centre of column c is at c + 0.5, the upper-left corner of its cells at c.
-- Coordinates that are no numbers of a map fit nothing (and cannot overflow). Rows are
-- turned in float8, where no row_idx can overflow either.
WITH cell AS MATERIALIZED (
    SELECT row_idx, col_idx, x, y,
        CASE WHEN abs(x) <= 1e15 THEN (x - $1::float8) / $3::float8 END AS px,
        CASE WHEN abs(y) <= 1e15 THEN ($2::float8 - y) / $4::float8 END AS py
    FROM (/*cells*/) AS stored
), placed AS (
    SELECT *,
        CASE WHEN $8 THEN px - col_idx - 0.5 ELSE px - floor(px) - 0.5 END AS x_center,
        CASE WHEN $8 THEN px - col_idx ELSE px - round(px) END AS x_corner,
        CASE WHEN $8 THEN py - row_idx - 0.5 ELSE py - floor(py) - 0.5 END AS y_center,
        CASE WHEN $8 THEN py - row_idx ELSE py - round(py) END AS y_corner,
        CASE WHEN $8 THEN py - ($5::float8 - 1 - row_idx) - 0.5 END AS y_center_south_up,
        CASE WHEN $8 THEN py - ($5::float8 - 1 - row_idx) END AS y_corner_south_up
    FROM cell
)
SELECT
    count(*),
    count(*) FILTER (WHERE $8 AND (row_idx IS NULL OR col_idx IS NULL)),
    count(*) FILTER (WHERE CASE WHEN $8
        THEN row_idx < 0 OR row_idx >= $5::int8 OR col_idx < 0 OR col_idx >= $6::int8
        ELSE px < -$7::float8 OR px > $6::int8 - 0.5 + $7::float8 OR py < -$7::float8 OR py > $5::int8 - 0.5 + $7::float8 END),
    min(row_idx), max(row_idx), min(col_idx), max(col_idx),
    count(*) FILTER (WHERE x IS NOT NULL AND y IS NOT NULL),
    count(*) FILTER (WHERE (x IS NULL) <> (y IS NULL)),
    count(*) FILTER (WHERE abs(x_center) <= $7::float8 AND abs(y_center) <= $7::float8),
    count(*) FILTER (WHERE abs(x_corner) <= $7::float8 AND abs(y_corner) <= $7::float8),
    count(*) FILTER (WHERE abs(x_center) <= $7::float8 AND abs(y_center_south_up) <= $7::float8),
    count(*) FILTER (WHERE abs(x_corner) <= $7::float8 AND abs(y_corner_south_up) <= $7::float8),
    min(x_center), max(x_center), min(y_center), max(y_center), min(y_center_south_up), max(y_center_south_up)
FROM placed
