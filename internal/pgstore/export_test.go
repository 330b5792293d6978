package pgstore

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
)

// Encryption says how a store would connect to each host of an address.
func Encryption(t *testing.T, address string) string {
	t.Helper()
	s, err := Open(t.Context(), address, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var said []string
	say := func(host string, c *tls.Config) {
		switch {
		case c == nil:
			said = append(said, "clear "+host)
		case c.InsecureSkipVerify:
			said = append(said, "encrypted "+host)
		default:
			said = append(said, "verified "+c.ServerName)
		}
	}
	config := s.pool.Config().ConnConfig
	say(config.Host, config.TLSConfig)
	for _, f := range config.Fallbacks {
		say(f.Host, f.TLSConfig)
	}
	return strings.Join(said, ", ")
}

// Setting gives a setting of a connection of the store.
func (s *Store) Setting(ctx context.Context, name string) (value string, err error) {
	err = s.pool.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&value)
	return value, err
}

// QueryMode gives how the store sends queries.
func (s *Store) QueryMode() string { return s.pool.Config().ConnConfig.DefaultQueryExecMode.String() }
