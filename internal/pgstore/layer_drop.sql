-- Forget this layer, and remember its generation for one that comes back under
-- its name.
--
-- $1 name. The caller holds the adoption lock.
WITH dropped AS (
    DELETE FROM rasterloom.layer WHERE name = $1 RETURNING name, generation
)
INSERT INTO rasterloom.dropped_layer (name, generation)
SELECT name, generation FROM dropped
ON CONFLICT (name) DO UPDATE SET generation = excluded.generation, drop_time = now()
