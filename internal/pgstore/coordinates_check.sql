-- Are the stored coordinates where the grid puts them?
--
-- $1 origin_x, $2 origin_y (outer north-west corner), $3 step_x, $4 step_y,
-- $5 rows, $6 cols, $7 how far the point that coordinates name lies from the
-- upper-left corner of its cell, in pixels (0.5 for centres), $8 whether rows run
-- from the south, $9 whether the table has indices, $10 tolerance in pixels,
-- $11 how many wrong rows to name, $12 tolerance of the hypotheses. The caller
-- puts in the query that gives the cells, as in survey.sql, and what rounds an
-- expected coordinate to the type of its column.
--
-- One row. One pass over the table, in its own order, that keeps nothing but the
-- counts and the rows it names: the window function numbers the wrong ones as
-- they come, and needs no row but the last. OFFSET 0 keeps the planner from
-- writing out an expression again wherever its value is used.
SELECT
    count(*),
    count(*) FILTER (WHERE exact),
    count(*) FILTER (WHERE wrong),
    count(*) FILTER (WHERE off),
    count(*) FILTER (WHERE missing),
    count(*) FILTER (WHERE outside),
    COALESCE(max(x_error), 0), COALESCE(max(y_error), 0),
    count(*) FILTER (WHERE abs(x_center) <= $12::float8 AND abs(y_center) <= $12::float8),
    count(*) FILTER (WHERE abs(x_corner) <= $12::float8 AND abs(y_corner) <= $12::float8),
    count(*) FILTER (WHERE abs(x_center) <= $12::float8 AND abs(y_center_south_up) <= $12::float8),
    count(*) FILTER (WHERE abs(x_corner) <= $12::float8 AND abs(y_corner_south_up) <= $12::float8),
    array_agg(own_row) FILTER (WHERE wrong AND nth <= $11::int8),
    array_agg(own_col) FILTER (WHERE wrong AND nth <= $11::int8),
    array_agg(x) FILTER (WHERE wrong AND nth <= $11::int8),
    array_agg(y) FILTER (WHERE wrong AND nth <= $11::int8),
    array_agg(expected_x) FILTER (WHERE wrong AND nth <= $11::int8),
    array_agg(expected_y) FILTER (WHERE wrong AND nth <= $11::int8)
FROM (
    SELECT *, count(*) FILTER (WHERE wrong) OVER (ROWS UNBOUNDED PRECEDING) AS nth
    FROM (
        SELECT *, missing OR off OR outside AS wrong
        FROM (
            SELECT *,
                x IS NULL OR y IS NULL AS missing,
                x IS NOT NULL AND y IS NOT NULL AND expected_x IS NOT NULL AND expected_y IS NOT NULL
                    AND (CASE WHEN $10::float8 > 0 THEN x_error <= $10::float8 AND y_error <= $10::float8 ELSE exact END) IS NOT TRUE
                    OR NOT $9 AND x IS NOT NULL AND y IS NOT NULL AND (px IS NULL OR py IS NULL) AS off,
                (north_row >= 0 AND north_row < $5::int8 AND col >= 0 AND col < $6::int8) IS NOT TRUE AND ($9 OR px IS NOT NULL AND py IS NOT NULL) AS outside
            FROM (
                SELECT *,
                    -- 0 and -0 are equal, but not the same.
                    COALESCE(x = expected_x AND y = expected_y
                        AND (x <> 0 OR float8send(x) = float8send(expected_x))
                        AND (y <> 0 OR float8send(y) = float8send(expected_y)), false) AS exact,
                    CASE WHEN px IS NOT NULL THEN abs(x - expected_x) / $3::float8 END AS x_error,
                    CASE WHEN py IS NOT NULL THEN abs(y - expected_y) / $4::float8 END AS y_error
                FROM (
                    SELECT *,
                        ($1::float8 + ((col + $7::float8) * $3::float8))/*rounded x*/ AS expected_x,
                        ($2::float8 - ((north_row + $7::float8) * $4::float8))/*rounded y*/ AS expected_y,
                        CASE WHEN $9 THEN px - col - 0.5 ELSE px - floor(px) - 0.5 END AS x_center,
                        CASE WHEN $9 THEN px - col ELSE px - round(px) END AS x_corner,
                        CASE WHEN $9 THEN py - row_idx - 0.5 ELSE py - floor(py) - 0.5 END AS y_center,
                        CASE WHEN $9 THEN py - row_idx ELSE py - round(py) END AS y_corner,
                        CASE WHEN $9 THEN py - ($5::float8 - 1 - row_idx) - 0.5 END AS y_center_south_up,
                        CASE WHEN $9 THEN py - ($5::float8 - 1 - row_idx) END AS y_corner_south_up,
                        CASE WHEN $9 THEN row_idx WHEN abs(north_row) < 1e15 THEN north_row::int8 END AS own_row,
                        CASE WHEN $9 THEN col_idx WHEN abs(col) < 1e15 THEN col::int8 END AS own_col
                    FROM (
                        SELECT *,
                            CASE WHEN $9 THEN col_idx ELSE round(px - $7::float8) END AS col,
                            CASE WHEN NOT $9 THEN round(py - $7::float8) WHEN $8 THEN $5::float8 - 1 - row_idx ELSE row_idx END AS north_row
                        FROM (
                            SELECT row_idx, col_idx, x, y,
                                CASE WHEN abs(x) <= 1e15 THEN (x - $1::float8) / $3::float8 END AS px,
                                CASE WHEN abs(y) <= 1e15 THEN ($2::float8 - y) / $4::float8 END AS py
                            FROM (/*cells*/) AS stored OFFSET 0
                        ) AS measured OFFSET 0
                    ) AS placed OFFSET 0
                ) AS compared OFFSET 0
            ) AS judged OFFSET 0
        ) AS told OFFSET 0
    ) AS counted
) AS numbered
