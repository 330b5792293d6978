-- Which cells are stored more than once?
--
-- $1 to $5 as in survey_offenders.sql, $6 cols, $7 whether the table has indices,
-- $8 as there, $9 how many to name. The caller puts in the cells as in
-- survey.sql. Rows without indices are not counted here, nor points outside the
-- grid. By row, then column; each row of the answer has the totals: cells stored
-- twice or more, and rows that are too many. One sort or hash of the table.
SELECT row, col, count(*) OVER (), (sum(n - 1) OVER ())::int8
FROM (
    SELECT
        CASE WHEN $7 THEN row_idx ELSE round(($2::float8 - y) / $4::float8 - $8::float8)::int8 END AS row,
        CASE WHEN $7 THEN col_idx ELSE round((x - $1::float8) / $3::float8 - $8::float8)::int8 END AS col,
        count(*) AS n
    FROM (/*cells*/) AS stored
    WHERE CASE WHEN $7 THEN row_idx IS NOT NULL AND col_idx IS NOT NULL
        ELSE x BETWEEN $1::float8 - $3::float8 AND $1::float8 + $3::float8 * ($6::int8 + 1)
         AND y BETWEEN $2::float8 - $4::float8 * ($5::int8 + 1) AND $2::float8 + $4::float8 END
    GROUP BY 1, 2
    HAVING count(*) > 1
) AS repeated
ORDER BY row, col
LIMIT $9
