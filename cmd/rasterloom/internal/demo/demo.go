// Package demo brings real rasters along, as years of use leave them in a
// database: a catalog and pixel tables of several ideas of how one looks.
//
// What is in the archive, and the SQL that makes it, comes from
// examples/demo/dump.py; here it is only given to PostgreSQL.
package demo

import (
	"archive/zip"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed old_database.zip
var archive []byte

const duplicateTable = "42P07" // SQLSTATE

// Stored says what was stored.
type Stored struct {
	Layers int
	Rows   int64
}

// ErrThere is a database that has the catalog already.
var ErrThere = errors.New("the catalog is there already")

// Store makes the catalog and the tables in a database that has none of them, all
// or nothing.
func Store(ctx context.Context, databaseURL string) (stored Stored, err error) {
	files, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return Stored{}, err
	}
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return Stored{}, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return Stored{}, err
	}
	// After a commit it does nothing.
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	for _, file := range files.File {
		if table, ok := strings.CutSuffix(file.Name, ".sql"); ok {
			err := run(ctx, tx, files, table)
			if said, ok := errors.AsType[*pgconn.PgError](err); ok && said.Code == duplicateTable {
				return Stored{}, ErrThere
			}
			if err != nil {
				return Stored{}, fmt.Errorf("%s: %w", table, err)
			}
		}
	}
	for _, file := range files.File {
		table, ok := strings.CutSuffix(file.Name, ".copy")
		if !ok {
			continue
		}
		rows, err := fill(ctx, tx, file, table)
		if err != nil {
			return Stored{}, fmt.Errorf("%s: %w", table, err)
		}
		stored.Layers, stored.Rows = stored.Layers+1, stored.Rows+rows
	}
	return stored, tx.Commit(ctx)
}

// run makes a table by the statements of the archive.
func run(ctx context.Context, tx pgx.Tx, files *zip.Reader, table string) error {
	text, err := files.Open(table + ".sql")
	if err != nil {
		return err
	}
	defer text.Close()
	statements, err := io.ReadAll(text)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, string(statements), pgx.QueryExecModeSimpleProtocol)
	return err
}

// fill copies the rows of the archive into a table.
func fill(ctx context.Context, tx pgx.Tx, file *zip.File, table string) (int64, error) {
	rows, err := file.Open()
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	name := pgx.Identifier(strings.Split(table, ".")).Sanitize()
	done, err := tx.Conn().PgConn().CopyFrom(ctx, rows, "COPY "+name+" FROM STDIN (FORMAT BINARY)")
	if err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, "ANALYZE "+name); err != nil {
		return 0, err
	}
	return done.RowsAffected(), nil
}
