-- Which stored coordinates fit no cell?
--
-- $1 origin_x, $2 origin_y, $3 step_x, $4 step_y, $5 rows, $6 whether the table
-- has indices, $7 tolerance in pixels, $8 how far the point that coordinates name
-- lies from the upper-left corner of its cell, in pixels (0.5 for centres), $9
-- whether rows run from the south, $10 how many to name. The caller puts in the
-- cells as in survey.sql. Rows with one coordinate missing, or with one that is
-- no number of a map, are among them; rows with both missing are not. No order:
-- the first found.
SELECT row_idx, col_idx, x, y
FROM (/*cells*/) AS stored
CROSS JOIN LATERAL (
    SELECT
        CASE WHEN abs(x) <= 1e15 THEN (x - $1::float8) / $3::float8 - $8::float8 END AS px,
        CASE WHEN abs(y) <= 1e15 THEN ($2::float8 - y) / $4::float8 - $8::float8 END AS py,
        CASE WHEN $9 THEN $5::float8 - 1 - row_idx ELSE row_idx END AS north_row
) AS place
WHERE (x IS NOT NULL OR y IS NOT NULL)
  AND (abs(px - CASE WHEN $6 THEN col_idx ELSE round(px) END) <= $7::float8
       AND abs(py - CASE WHEN $6 THEN north_row ELSE round(py) END) <= $7::float8) IS NOT TRUE
LIMIT $10
