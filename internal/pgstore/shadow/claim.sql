-- Which migration needs a worker? The one that waits longest: something to do,
-- and no lease, or one that has run out. Its fence grows, so that whoever had
-- it before can do nothing any more, and what that one waited for is forgotten. Of
-- those that are throttled only where $2 says so. Skips rows that others hold.
UPDATE rasterloom.migration SET fence = fence + 1, lease_until = clock_timestamp() + $1, failure = NULL
WHERE id = (
    SELECT id FROM rasterloom.migration
    WHERE condition = 'RUNNING'
      AND state IN ('PLANNED', 'CAPTURING', 'BACKFILLING', 'INDEXED', 'SYNCED',
                    'TILED_PLANNED', 'TILED_CAPTURING', 'TILED_BACKFILLING', 'TILED_INDEXED', 'TILED_SYNCED')
      AND ($2 OR rows_per_second = 0)
      AND (lease_until IS NULL OR lease_until < clock_timestamp())
    ORDER BY coalesce(lease_until, create_time), id
    LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, fence
