-- How many layers does our catalog have under this filter?
--
-- $1 and $2 as $2 and $3 of layers.sql. One pass over the catalog.
SELECT count(*)
FROM rasterloom.layer
WHERE ($1 = '' OR strpos(lower(name COLLATE "default"), lower($1 COLLATE "default")) > 0)
  AND (cardinality($2::text[]) = 0 OR format = ANY ($2))
