package worker_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// rewrites write all rows of a table anew, which calls no trigger.
var rewrites = map[string]struct {
	do      []string
	changes bool
}{
	"other values": {[]string{"ALTER TABLE " + birds + " ALTER value TYPE double precision USING value * 10"}, true},
	"other cells":  {[]string{"ALTER TABLE " + birds + " ALTER col_idx TYPE integer USING col_idx + 1"}, true},
	"values behind the trigger's back": {[]string{"ALTER TABLE " + birds + " DISABLE TRIGGER rasterloom_row_1", "UPDATE " + birds + " SET value = value * 10",
		"ALTER TABLE " + birds + " ENABLE ALWAYS TRIGGER rasterloom_row_1", "VACUUM FULL " + birds}, true},
	"VACUUM FULL": {[]string{"VACUUM FULL " + birds}, false},
	"CLUSTER":     {[]string{"CLUSTER " + birds + " USING passthrough_birds_pkey"}, false},
}

// rewritten does what a rewrite is; false where PostgreSQL refuses it, for something of
// ours that names the column.
func (s *stage) rewritten(statements []string) bool {
	s.t.Helper()
	for _, sql := range statements {
		_, err := s.pool.Exec(s.t.Context(), sql)
		if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "0A000" && strings.Contains(sql, " TYPE ") {
			return false
		}
		if err != nil {
			s.t.Fatalf("%s: %v", sql, err)
		}
	}
	return true
}

// A table whose rows were changed past the triggers is not what was verified: neither the
// cut-over brings the old values back, nor does the way back drop the only table that has
// the new ones. One that was only written anew is compared again, and goes on.
func TestRewrittenTablesAreComparedAgain(t *testing.T) {
	for name, c := range rewrites {
		for _, at := range []migrate.State{migrate.Verified, migrate.CutOver} {
			t.Run(fmt.Sprint(name, " while ", at), func(t *testing.T) {
				t.Parallel()
				s := newStage(t, 40, 30, false)
				s.do("UPDATE " + birds + " SET value = 3 WHERE row_idx = 7")
				h := s.byHand()
				h.to(at)
				next := s.migrations.CutOver
				if at == migrate.CutOver {
					next = s.migrations.Rollback
				}
				if !s.rewritten(c.do) {
					return
				}
				content := s.content()
				err := next(t.Context(), h.id, h.etag())
				if c.changes {
					f := want(t, err, fault.Corrupt, fault.DataCorrupt)
					if !strings.Contains(f.Message, "written anew") || strings.Contains(f.Message, "abort") != (at == migrate.Verified) || f.Fields["cells"] == "" {
						t.Error(f, f.Fields)
					}
					if at == migrate.CutOver {
						want(t, s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{}), fault.Corrupt, fault.DataCorrupt)
					}
					if name == "other cells" {
						return // rows are where they should not be in the other one: there is no way to carry that over
					}
					// As the message says.
					s.do("UPDATE " + birds + " SET value = value")
					content = s.content()
					err = next(t.Context(), h.id, h.etag())
				}
				h.must(err)
				if s.content() != content {
					t.Error("the content is not what was written")
				}
			})
		}
	}
}

// In place there is one table: its values are what they are.
func TestRewrittenInPlace(t *testing.T) {
	for name, c := range rewrites {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 40, 30, false)
			s.inPlace = true
			h := s.byHand()
			h.to(migrate.Verified)
			if !s.rewritten(c.do) {
				return
			}
			content := s.content()
			h.must(s.migrations.CutOver(t.Context(), h.id, h.etag()))
			s.rewritten(c.do)
			h.must(s.migrations.Rollback(t.Context(), h.id, h.etag()))
			if c.changes == (s.content() == content) {
				t.Error("the content is not what was written")
			}
		})
	}
}

// Merges take no tile for true of a table that was written anew; workers make all of them
// anew, and then they are read again. Finalizing waits for that.
func TestTilesOfARewrittenTable(t *testing.T) {
	for name, c := range rewrites {
		for _, at := range []migrate.State{migrate.Synced, migrate.Verified, migrate.CutOver} {
			t.Run(fmt.Sprint(name, " while ", at), func(t *testing.T) {
				t.Parallel()
				s := newTiledStage(t, 300, 300, false)
				s.do("UPDATE " + birds + " SET value = 3 WHERE row_idx = 7")
				s.do("DELETE FROM " + birds + " WHERE col_idx = 299")
				h := s.byHand()
				h.to(at)
				if !s.rewritten(c.do) {
					return
				}
				if at == migrate.Synced {
					if err := s.migrations.Verify(t.Context(), h.lease); c.changes {
						want(t, err, fault.Corrupt, fault.DataCorrupt)
						return
					}
				}
				if at == migrate.CutOver {
					err := s.migrations.Finalize(t.Context(), h.id, "", migrate.Losses{Name: true})
					want(t, err, fault.Conflict, fault.MigrationChanged)
					if c.changes {
						want(t, s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{Name: true}), fault.Unavailable, fault.TableBusy)
					}
				}
				h.to(migrate.CutOver)
				s.sameAsTable("before a worker came by")
				s.do("UPDATE " + birds + " SET value = 4 WHERE row_idx = 8")
				s.sameAsTable("written to")
				lease, found, err := s.migrations.ClaimBehind(t.Context(), 1e9)
				if h.must(err); !found {
					t.Fatal("no worker is wanted")
				}
				for left := true; left; {
					left, err = s.migrations.Follow(t.Context(), lease)
					h.must(err)
				}
				s.sameAsTable("after it")
				if n := ask[int](s, "SELECT count(*) FROM rasterloom.notes_1"); n != 0 {
					t.Errorf("%d notes are left", n)
				}
				if n := ask[int](s, `SELECT count(*) FROM pg_class c JOIN pg_description d ON d.objoid = c.oid WHERE d.description LIKE '{"rasterloom_pixels":%'
						AND d.description::json ->> 'file' = (SELECT relfilenode::text FROM pg_class WHERE oid = '`+birds+`'::regclass)`); n != 1 {
					t.Error("readers are not told of the new file")
				}
				h.must(s.migrations.Release(t.Context(), lease))
				if _, found, err := s.migrations.ClaimBehind(t.Context(), 1e9); found || err != nil {
					t.Error("a worker is wanted again", err)
				}
				held := s.held()
				h.must(s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{Name: true}))
				got, err := s.woven()
				h.must(err)
				if len(got) != len(held) {
					t.Errorf("%d cells, the table had %d", len(got), len(held))
				}
			})
		}
	}
}
