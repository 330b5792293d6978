package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rasterloom/rasterloom/fault"
)

// A migration may wait for its operator for weeks, and its table is somebody's: they
// put indexes, constraints, triggers and policies on it, and take others off. The plan
// looked at what there was at the start. So whoever is about to put one table in the
// place of another, or to drop one, looks again, under the lock: whatever the one has
// and the other has not would silently be lost, or be back.

// feature is something that a table has, or that hangs on it.
type feature struct {
	kind, name string
	looks      string // how it is defined, where that may differ
	own        bool   // part of the table itself: what is not is lost with it, or in the way
}

func (f feature) String() string { return strings.TrimSpace(f.kind + " " + f.name) }

// features gives what a table has, under the names that it has while it is the one
// with the public name. Our own triggers are none.
func (a *arrow) features(ctx context.Context, oid uint32) ([]feature, error) {
	rows, err := a.Tx.Query(ctx, strings.Replace(sqlFeatures, "/* dependents */", sqlDependents, 1), oid)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (f feature, err error) {
		return f, r.Scan(&f.kind, &f.name, &f.looks, &f.own)
	})
	if err != nil {
		return nil, err
	}
	list = a.notOurs(list)
	indexes, err := readIndexes(ctx, a.Tx, oid)
	if err != nil {
		return nil, err
	}
	for _, x := range indexes {
		for i, n := range a.row.indexes {
			if x.Name == n.Hidden || x.Name == a.hiddenIndex(i, true) {
				x.Name = n.Name
			}
		}
		if x.Identity {
			list = append(list, feature{kind: replicaIdentity, looks: ofIndex + x.Name, own: true})
		}
		name := x.Name
		x.Name, x.Identity = "", false
		list = append(list, feature{kind: "index", name: name, looks: fmt.Sprint(x), own: true})
	}
	return list, nil
}

// replicaIdentity is what a table's replica identity is told as, and ofIndex what one looks
// like that is an index.
const replicaIdentity, ofIndex = "replica identity", "index "

// notOurs leaves out the triggers of the migration.
func (a *arrow) notOurs(list []feature) []feature {
	return slices.DeleteFunc(list, func(f feature) bool {
		return f.kind == "trigger" && (f.name == rowTrigger(a.row.ID) || f.name == truncateTrigger(a.row.ID))
	})
}

// since is what makes two tables differ.
type since struct{ added, gone, changed []feature }

// differences compares what the table with the public name has with what the other has.
func (a *arrow) differences(ctx context.Context, named, hidden uint32) (d since, err error) {
	here, err := a.features(ctx, named)
	if err != nil {
		return d, err
	}
	there, err := a.features(ctx, hidden)
	if err != nil {
		return d, err
	}
	same := func(f feature) func(feature) bool {
		return func(o feature) bool { return o.kind == f.kind && o.name == f.name }
	}
	for _, f := range here {
		switch i := slices.IndexFunc(there, same(f)); {
		case i < 0:
			d.added = append(d.added, f)
		case f.kind == replicaIdentity && !strings.HasPrefix(f.looks, ofIndex) && (strings.HasPrefix(there[i].looks, ofIndex) || there[i].looks == "f"):
			// While a table is hidden it goes by another one: see identified.
		case there[i].looks != f.looks:
			d.changed = append(d.changed, f)
		}
	}
	for _, f := range there {
		if !slices.ContainsFunc(here, same(f)) {
			d.gone = append(d.gone, f)
		}
	}
	return d, nil
}

// alike makes sure that the table that is about to take the name has all that the one
// with the name has, and nothing else. Errors: Precondition DEPENDENT, naming what
// differs; instead is what can be done besides undoing it.
func (a *arrow) alike(ctx context.Context, named, hidden uint32, instead string, more ...feature) error {
	d, err := a.differences(ctx, named, hidden)
	if err != nil {
		return err
	}
	d.added = append(d.added, more...)
	var parts, fixes []string
	for _, c := range []struct {
		what, fix string
		list      []feature
	}{
		{"added", "take off what was added", d.added}, {"taken off", "put back what was taken off", d.gone}, {"changed", "undo what was changed", d.changed},
	} {
		if len(c.list) > 0 {
			parts, fixes = append(parts, c.what+": "+names(c.list)), append(fixes, c.fix)
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return a.row.dependent(slices.Concat(d.added, d.gone, d.changed),
		"table %s was altered since migration %s gave it its double, which has not followed that; %s; %s, or %s",
		a.row.Table, a.row.ID, strings.Join(parts, "; "), strings.Join(fixes, " and "), instead)
}

// nothingLost makes sure that nothing hangs on a table that is about to be dropped:
// what the plan looked for, and views. Errors: Precondition DEPENDENT, naming it.
func (a *arrow) nothingLost(ctx context.Context, fresh, old uint32) error {
	d, err := a.differences(ctx, fresh, old)
	if err != nil {
		return err
	}
	lost := slices.DeleteFunc(d.gone, func(f feature) bool { return f.own })
	views, err := readViews(ctx, a.Tx, old)
	if err != nil {
		return err
	}
	for _, v := range views {
		lost = append(lost, feature{kind: "view", name: quoted(v.schema, v.name)})
	}
	return a.wouldBeLost(lost)
}

// wouldBeLost is the fault of a table that has something on it and is to be dropped.
func (a *arrow) wouldBeLost(lost []feature) error {
	if len(lost) == 0 {
		return nil
	}
	return a.row.dependent(lost, "layer %q: the table that was %s before migration %s is to be dropped, and this hangs on it: %s; take it off first",
		a.row.Spec.Layer, a.row.Table, a.row.ID, names(lost))
}

// onCoordinates gives what hangs on the columns that a rollback takes away.
func (a *arrow) onCoordinates(ctx context.Context, oid uint32) ([]feature, error) {
	rows, err := a.Tx.Query(ctx, sqlOfCoordinates, oid, rowTrigger(a.row.ID))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (f feature, err error) { return f, r.Scan(&f.kind, &f.name) })
}

// dependent is the fault of what stands in the way of an arrow. Nothing was changed.
func (r migrationRow) dependent(what []feature, format string, args ...any) *fault.Error {
	return fault.New(fault.Precondition, fault.Dependent, format, args...).
		With("layer", r.Spec.Layer).With("table", r.Table).With("migration", r.ID).With("dependents", names(what)).With("refusals", "DEPENDENT")
}

// stillNeeded tells of what PostgreSQL found on a table that it was to drop, and we had
// not: dependent_objects_still_exist.
func (r migrationRow) stillNeeded(err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || e.Code != "2BP01" {
		return err
	}
	told := strings.ReplaceAll(e.Detail, "\n", "; ")
	return r.dependent([]feature{{name: told}}, "layer %q: something hangs on a table of migration %s that is to be dropped: %s; take it off first",
		r.Spec.Layer, r.ID, told).Because(err)
}

// names lists features, each once.
func names(list []feature) string {
	var all []string
	for _, f := range list {
		if name := f.String(); !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return strings.Join(all, ", ")
}

// What can be done instead, where a table was altered.
const (
	insteadOfCutOver  = "abort the migration and start again"
	insteadOfRollback = "finalize the migration"
)
