package migration

import (
	"context"
	"errors"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// UpTo applies the versions up to one, as a program of that time did.
func UpTo(ctx context.Context, config *pgx.ConnConfig, version int64) (err error) {
	done, err := takeTurn(ctx, config)
	if err != nil {
		return err
	}
	defer done()
	db := stdlib.OpenDB(*config.Copy())
	defer func() { err = errors.Join(err, db.Close()) }()
	versions, err := fs.Sub(files, "versions")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, versions, goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = provider.UpTo(ctx, version)
	return err
}

// Versions is how many there are.
func Versions() int64 {
	entries, err := files.ReadDir("versions")
	if err != nil {
		return 0
	}
	return int64(len(entries))
}
