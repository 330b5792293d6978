// Package migration brings the tables of the schema rasterloom to the version
// that this program needs. The versions are SQL files; a version that was
// released is never edited.
package migration

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed versions/*.sql
var files embed.FS

// versionTable is where goose notes what was applied.
const versionTable = "rasterloom.schema_version"

// lockID is the advisory lock that replicas take turns by: "rasterlo" as a
// big-endian number. It must never change.
const lockID int64 = 0x72617374_65726c6f

// Up applies the versions that are missing, each in a transaction of its own.
// Any number of processes may call it at once: they take turns. It returns the
// version reached and the number of versions applied. Errors are those of the
// driver and of goose (*goose.PartialError tells what was applied and what
// failed).
func Up(ctx context.Context, config *pgx.ConnConfig) (version int64, applied int, err error) {
	config = config.Copy()
	config.RuntimeParams["search_path"] = "pg_catalog"
	done, err := takeTurn(ctx, config)
	if err != nil {
		return 0, 0, err
	}
	defer done()
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	versions, err := fs.Sub(files, "versions")
	if err != nil {
		return 0, 0, err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, versions,
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return 0, 0, fmt.Errorf("read the migrations: %w", err)
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return 0, len(results), fmt.Errorf("migrate the schema rasterloom: %w", err)
	}
	version, err = provider.GetDBVersion(ctx)
	return version, len(results), err
}

// takeTurn waits until no other process migrates, and makes the schema that
// goose's own table is in. The lock goes with the connection, so a process that
// dies gives it back. Goose's own locker neither covers the making of its table
// nor wakes at once: it polls, at most once a second.
func takeTurn(ctx context.Context, config *pgx.ConnConfig) (done func(), err error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	done = func() { _ = conn.Close(context.WithoutCancel(ctx)) }
	if _, err = conn.Exec(ctx, "SELECT pg_advisory_lock($1)", lockID); err != nil {
		done()
		return nil, fmt.Errorf("wait for other replicas to migrate: %w", err)
	}
	// Asked first, so that a role that may not create schemas can start on a
	// database that was prepared for it.
	var exists bool
	err = conn.QueryRow(ctx, "SELECT to_regnamespace('rasterloom') IS NOT NULL").Scan(&exists)
	if err == nil && !exists {
		_, err = conn.Exec(ctx, "CREATE SCHEMA rasterloom")
	}
	if err != nil {
		done()
		return nil, fmt.Errorf("create the schema rasterloom: %w", err)
	}
	return done, nil
}

// Hash identifies the set of versions, for caches of migrated databases.
func Hash() (string, error) {
	sum := sha256.New()
	entries, err := files.ReadDir("versions") // sorted by name
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		text, err := files.ReadFile("versions/" + e.Name())
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n%s", e.Name(), len(text), text)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
