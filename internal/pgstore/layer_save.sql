-- Keep this layer: add it, or put it in the place of the one of its name.
--
-- $1 to $32 are the columns in order. The caller has decided the generation,
-- holding the adoption lock; a layer that was dropped once goes on from its last
-- generation. update_time is of this transaction.
INSERT INTO rasterloom.layer (
    name, band, format, crs, grid_rows, grid_cols, origin_x, origin_y, step_x, step_y,
    table_schema, table_name, table_oid, table_file, declared_type, stored_type, nodata,
    registration, south_up, target_resolution, has_indices, has_coordinates, has_key,
    estimated_rows, problems, source_schema, source_table, source_oid, source_row, generation, tiling, ingested_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22, $23, $24, $25, $26, $27, $28, $29,
    GREATEST($30, 1 + (SELECT d.generation FROM rasterloom.dropped_layer d WHERE d.name = $1)), NULLIF($31, '')::json, NULLIF($32, ''))
ON CONFLICT (name) DO UPDATE SET (
    band, format, crs, grid_rows, grid_cols, origin_x, origin_y, step_x, step_y,
    table_schema, table_name, table_oid, table_file, declared_type, stored_type, nodata,
    registration, south_up, target_resolution, has_indices, has_coordinates, has_key,
    estimated_rows, problems, source_schema, source_table, source_oid, source_row, generation, tiling, ingested_by, update_time
) = (
    excluded.band, excluded.format, excluded.crs, excluded.grid_rows, excluded.grid_cols,
    excluded.origin_x, excluded.origin_y, excluded.step_x, excluded.step_y,
    excluded.table_schema, excluded.table_name, excluded.table_oid, excluded.table_file,
    excluded.declared_type, excluded.stored_type, excluded.nodata, excluded.registration,
    excluded.south_up, excluded.target_resolution, excluded.has_indices, excluded.has_coordinates,
    excluded.has_key, excluded.estimated_rows, excluded.problems, excluded.source_schema,
    excluded.source_table, excluded.source_oid, excluded.source_row, excluded.generation, excluded.tiling,
    excluded.ingested_by, now()
)
RETURNING update_time, generation
