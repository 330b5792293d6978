package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/internal/migrate"
)

// Count gives how many migrations that are not over there are of each kind.
func (m *Migrations) Count(ctx context.Context) ([]migrate.Count, error) {
	rows, err := m.pool.Query(ctx, `SELECT level, state, condition, count(*), extract(epoch FROM clock_timestamp() - min(state_time))::float8
		FROM rasterloom.migration WHERE state NOT IN ('FINALIZED', 'ROLLED_BACK', 'ABORTED') GROUP BY level, state, condition`)
	if err != nil {
		return nil, faultOf(err)
	}
	counts, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (c migrate.Count, err error) {
		var level, state, condition string
		var seconds float64
		err = r.Scan(&level, &state, &condition, &c.Number, &seconds)
		c.Level, c.State, c.Condition = migrate.Level(level), stateOf(state), migrate.Condition(condition)
		c.Oldest = time.Duration(max(0, seconds) * float64(time.Second))
		return c, err
	})
	return counts, faultOf(err)
}
