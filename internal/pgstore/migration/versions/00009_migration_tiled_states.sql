-- States of migrations to tiles that are not over have names of their own. Programs
-- of before there were such migrations look at the state alone: they would take one
-- for a migration to stored coordinates, make a second table, and drop what is not
-- theirs. A state that they do not know they leave alone, and refuse to change.

-- +goose Up
ALTER TABLE rasterloom.migration DROP CONSTRAINT migration_state_check;
UPDATE rasterloom.migration SET state = 'TILED_' || state WHERE level = 'TILED' AND state NOT IN ('FINALIZED', 'ROLLED_BACK', 'ABORTED');
ALTER TABLE rasterloom.migration ADD CONSTRAINT migration_state_check CHECK (
    state IN ('FINALIZED', 'ROLLED_BACK', 'ABORTED') OR
    CASE level WHEN 'TILED' THEN state IN ('TILED_PLANNED', 'TILED_CAPTURING', 'TILED_BACKFILLING', 'TILED_INDEXED', 'TILED_SYNCED',
                                           'TILED_VERIFIED', 'TILED_CUT_OVER')
               ELSE state IN ('PLANNED', 'CAPTURING', 'BACKFILLING', 'INDEXED', 'SYNCED', 'VERIFIED', 'CUT_OVER') END);

-- +goose Down
ALTER TABLE rasterloom.migration DROP CONSTRAINT migration_state_check;
UPDATE rasterloom.migration SET state = replace(state, 'TILED_', '');
ALTER TABLE rasterloom.migration ADD CONSTRAINT migration_state_check CHECK (
    state IN ('PLANNED', 'CAPTURING', 'BACKFILLING', 'INDEXED', 'SYNCED', 'VERIFIED', 'CUT_OVER', 'FINALIZED', 'ROLLED_BACK', 'ABORTED'));
