package pgstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/internal/migrate"
)

// headroomFor gives the space on the disk for a migration of a table: what an
// operator says, or what is measured, less what other migrations still need. nil
// where neither is to be had: PostgreSQL itself cannot tell.
func headroomFor(ctx context.Context, tx pgx.Tx, t pixelTable, declared *int64) (*migrate.Headroom, error) {
	h := &migrate.Headroom{}
	if declared != nil {
		h.Bytes = *declared
	} else {
		bytes, known, err := measureFree(ctx, tx, t)
		if err != nil || !known {
			return nil, err
		}
		h.Bytes, h.Measured = bytes, true
	}
	// Those that have copied everything have taken what they need.
	err := tx.QueryRow(ctx, `SELECT coalesce(sum(disk_bytes), 0)::bigint FROM rasterloom.migration
		WHERE state IN ('PLANNED', 'CAPTURING', 'BACKFILLING', 'TILED_PLANNED', 'TILED_CAPTURING', 'TILED_BACKFILLING')`).Scan(&h.Reserved)
	return h, err
}

// measureFree asks the file system where the server keeps the table, when that is
// one of this machine: the directory must hold the lock file of a server that
// started when ours did, under the same number.
func measureFree(ctx context.Context, tx pgx.Tx, t pixelTable) (free int64, known bool, err error) {
	var directory, location *string
	var started int64
	// NULL for a role that may not see the setting.
	err = tx.QueryRow(ctx, `SELECT (SELECT setting FROM pg_settings WHERE name = 'data_directory'),
		(SELECT nullif(pg_tablespace_location(oid), '') FROM pg_tablespace WHERE spcname = $1),
		extract(epoch FROM pg_postmaster_start_time())::bigint`, t.tablespace).Scan(&directory, &location, &started)
	if err != nil || directory == nil || !isServersDirectory(*directory, started) {
		return 0, false, err
	}
	at := *directory
	if location != nil {
		at = *location
	}
	var stat syscall.Statfs_t
	if err := syscall.Statfs(at, &stat); err != nil {
		if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOENT) {
			return 0, false, nil
		}
		return 0, false, err
	}
	return int64(stat.Bavail) * int64(stat.Bsize), true, nil //nolint:unconvert // types differ by system
}

// isServersDirectory reads postmaster.pid: its third line is when the server
// started, in seconds. The server tells the moment a little later than it writes
// it down.
func isServersDirectory(directory string, started int64) bool {
	text, err := os.ReadFile(filepath.Join(directory, "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 3 {
		return false
	}
	at, err := strconv.ParseInt(strings.TrimSpace(lines[2]), 10, 64)
	return err == nil && started-2 <= at && at <= started+2
}
