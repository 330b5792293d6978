package pgstore

import "context"

// Setting gives a setting of a connection of the store.
func (s *Store) Setting(ctx context.Context, name string) (value string, err error) {
	err = s.pool.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&value)
	return value, err
}

// QueryMode gives how the store sends queries.
func (s *Store) QueryMode() string { return s.pool.Config().ConnConfig.DefaultQueryExecMode.String() }
