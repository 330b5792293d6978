-- What is known of migrations, with the progress of their copying? The caller
-- adds WHERE, on the primary key or a unique index. No order.
SELECT m.id, m.layer, m.level, m.rows_per_second,
       m.table_schema, m.table_name, m.old_table, m.new_table, m.signature, m.new_signature, m.old_file,
       m.crs, m.grid_rows, m.grid_cols, m.origin_x, m.origin_y, m.step_x, m.step_y, m.south_up,
       m.old_format, m.old_registration, m.indexes, m.state, m.condition, m.failure, m.verification,
       m.in_place, m.disk_bytes, m.tiles, coalesce(m.tiles_schema, ''), coalesce(m.tiles_name, ''),
       m.revision, m.fence, m.synced_xid::text, m.rows_total, m.create_time, m.state_time, m.update_time,
       l.rows, l.blocks, l.done
FROM rasterloom.migration m
CROSS JOIN LATERAL (
    SELECT coalesce(sum(rows), 0)::bigint AS rows,
           coalesce(sum(stop_block - start_block), 0)::bigint AS blocks,
           coalesce(sum(next_block - start_block), 0)::bigint AS done
    FROM rasterloom.migration_lane WHERE migration = m.id) l
