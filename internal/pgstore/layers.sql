-- Which layers does our catalog have: those of these names, or a page of all?
--
-- $1 names, NULL for all; $2 text that the name contains, in any case; $3
-- formats, empty for all; $4 names after this one only; $5 how many. By name,
-- byte for byte, along layer_pkey.
SELECT
    name, band, format, crs, grid_rows, grid_cols, origin_x, origin_y, step_x, step_y,
    table_schema, table_name, table_oid, table_file, declared_type, stored_type, nodata,
    registration, south_up, target_resolution, has_indices, has_coordinates, has_key,
    estimated_rows, problems, source_schema, source_table, source_oid, source_row, generation, update_time,
    COALESCE(tiling::text, ''), COALESCE(ingested_by, '')
FROM rasterloom.layer
WHERE ($1::text[] IS NULL OR name = ANY ($1))
  AND ($2 = '' OR strpos(lower(name COLLATE "default"), lower($2 COLLATE "default")) > 0)
  AND (cardinality($3::text[]) = 0 OR format = ANY ($3))
  AND name > $4
ORDER BY name
LIMIT $5
