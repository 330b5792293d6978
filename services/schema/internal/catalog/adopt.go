package catalog

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// DefaultSource is the catalog table of the old system.
var DefaultSource = layer.Table{Schema: "public", Name: "resampled_datasets"}

// systemSchemas hold no catalog and no pixels of anybody's.
var systemSchemas = []string{"pg_catalog", "information_schema", "pg_toast", "rasterloom"}

// Adoption says which catalog to adopt.
type Adoption struct {
	Source layer.Table
	// DataSchema is the schema of the pixel tables; empty: that of the source.
	DataSchema string
	// DryRun writes nothing.
	DryRun bool
}

// Adopted says what was found.
type Adopted struct {
	Layers                    []layer.Layer // by name
	Added, Changed, Unchanged int
	Invalid                   int
}

// Adopt reads an existing catalog, looks at each layer's table and keeps the
// result, all in one transaction. It changes nothing of theirs. Repeating it
// changes nothing where nothing has changed; a layer whose facts have gets a
// new generation. Layers of this catalog whose rows are gone are kept, and
// marked by a problem.
//
// Errors: Invalid INVALID_ARGUMENT (impossible names), Denied (system schemas;
// permissions), NotFound and Precondition CATALOG_NOT_FOUND, Exists LAYER_AMBIGUOUS
// when other catalogs that still exist have given all of the names, and as any query.
func (k *Keeper) Adopt(ctx context.Context, a Adoption) (Adopted, error) {
	if a.Source == (layer.Table{}) {
		a.Source = DefaultSource
	}
	if a.DataSchema == "" {
		a.DataSchema = a.Source.Schema
	}
	if err := checkNames(a); err != nil {
		return Adopted{}, err
	}
	begin := k.store.Change
	if a.DryRun {
		begin = k.store.Look
	}
	tx, err := begin(ctx)
	if err != nil {
		return Adopted{}, err
	}
	defer tx.Rollback(ctx)
	oid, rows, err := tx.CatalogRows(ctx, a.Source)
	if err != nil {
		return Adopted{}, err
	}
	claims := claimsOf(rows, a.DataSchema)
	for _, c := range claims {
		c.Source.Table, c.Source.OID = a.Source, oid
	}
	if err := examine(ctx, tx, claims, false); err != nil {
		return Adopted{}, err
	}
	tellShared(claims)
	adopted, err := keep(ctx, tx, a, oid, claims)
	if err != nil || a.DryRun {
		return adopted, err
	}
	return adopted, tx.Commit(ctx)
}

func checkNames(a Adoption) error {
	for _, n := range []struct{ field, name string }{
		{"table.schema", a.Source.Schema}, {"table.name", a.Source.Name}, {"data_schema", a.DataSchema},
	} {
		if flaw := flawOf(n.name, maxIdentifierBytes); flaw != "" {
			return fault.New(fault.Invalid, fault.InvalidArgument, "%s %s", n.field, flaw).
				With("field", n.field).With("value", shorten(n.name))
		}
	}
	if strings.HasPrefix(a.Source.Schema, "pg_temp") {
		return fault.New(fault.Invalid, fault.InvalidArgument, "temporary tables cannot be adopted").
			With("field", "table.schema").With("value", a.Source.Schema)
	}
	for _, schema := range []string{a.Source.Schema, a.DataSchema} {
		if err := checkSchema(schema); err != nil {
			return err
		}
	}
	return nil
}

// checkSchema refuses schemas that hold nothing of anybody's. Those of temporary
// tables pass, under their own names: what is wrong with such a table is told when
// it has been found.
func checkSchema(schema string) error {
	if schema == "pg_temp" {
		return fault.New(fault.Invalid, fault.InvalidArgument, "pg_temp is another schema for each session; its tables end with theirs").
			With("field", "table.schema").With("value", schema)
	}
	if strings.HasPrefix(schema, "pg_temp_") {
		return nil
	}
	if slices.Contains(systemSchemas, schema) || strings.HasPrefix(schema, "pg_") {
		return fault.New(fault.Denied, fault.DatabasePermission, "the schema %s is the system's: nothing in it can become a layer", schema).
			With("schema", schema)
	}
	return nil
}

// claimsOf gives a claim for each name, by name.
func claimsOf(rows []layer.CatalogRow, dataSchema string) []*Claim {
	byName := make(map[string][]layer.CatalogRow, len(rows))
	for _, row := range rows {
		byName[row.Name] = append(byName[row.Name], row)
	}
	claims := make([]*Claim, 0, len(byName))
	for _, same := range byName {
		claims = append(claims, NewClaim(same, dataSchema))
	}
	slices.SortFunc(claims, func(a, b *Claim) int { return strings.Compare(a.Name, b.Name) })
	return claims
}

// examine brings the evidence in: all tables in one query, then samples of the rows
// of many in a round trip, or all rows of one after the other.
func examine(ctx context.Context, tx Tx, claims []*Claim, whole bool) (err error) {
	var tables []layer.Table
	for _, c := range claims {
		tables = append(tables, c.Candidates...)
	}
	if tables, err = throughTiles(ctx, tx, claims, tables); err != nil {
		return err
	}
	relations, err := tx.Relations(ctx, tables)
	if err != nil {
		return err
	}
	var surveyed []*Claim
	var surveys []layer.Survey
	for _, c := range claims {
		n := len(c.Candidates)
		c.Settle(relations[:n])
		relations = relations[n:]
		if s, ok := c.Survey(whole); ok {
			surveyed, surveys = append(surveyed, c), append(surveys, s)
		}
	}
	findings, err := survey(ctx, tx, surveys, whole)
	for i, f := range findings {
		surveyed[i].Conclude(f, whole)
		surveyed[i].rowsRead = f.Rows
	}
	if err != nil {
		return inLayer(surveyed[len(findings)].Name, err)
	}
	return nil
}

// survey answers in request order, up to the one that failed.
func survey(ctx context.Context, tx Tx, surveys []layer.Survey, whole bool) ([]layer.Findings, error) {
	if !whole {
		return tx.Surveys(ctx, surveys)
	}
	var found []layer.Findings
	for _, s := range surveys {
		f, err := tx.Survey(ctx, s)
		if err != nil {
			return found, err
		}
		found = append(found, f)
	}
	return found, nil
}

// inLayer says in which layer something went wrong. The end of a context stays
// what it is.
func inLayer(name string, err error) error {
	f := fault.From(err)
	if f.Kind == fault.Internal {
		return fmt.Errorf("look at layer %q: %w", name, err)
	}
	told := fault.New(f.Kind, f.Reason, "layer %q: %s", name, f.Message).Because(err)
	for key, value := range f.Fields {
		told = told.With(key, value)
	}
	return told.With("layer", name)
}

// tellShared warns of tables that several layers claim.
func tellShared(claims []*Claim) {
	owners := make(map[uint32][]*Claim)
	for _, c := range claims {
		if c.TableOID != 0 {
			owners[c.TableOID] = append(owners[c.TableOID], c)
		}
	}
	for _, sharing := range owners {
		for i, c := range sharing {
			if len(sharing) > 1 {
				other := sharing[(i+1)%len(sharing)].Name
				c.find(TableShared, layer.Warning, fields{"other": other, "layers": len(sharing)}, "", "its table %s is that of the layer %q too", c.Table, other)
			}
		}
	}
}

// keep compares the claims with our catalog and writes what is new.
func keep(ctx context.Context, tx Tx, a Adoption, oid uint32, claims []*Claim) (Adopted, error) {
	var out Adopted
	names := make([]string, len(claims))
	for i, c := range claims {
		names[i] = c.Name
	}
	known, err := tx.Layers(ctx, names)
	if err != nil {
		return out, err
	}
	before := make(map[string]layer.Record, len(known))
	for _, r := range known {
		before[r.Name] = r
	}
	taken, err := takenNames(ctx, tx, a.Source, oid, known)
	if err == nil {
		err = refuseCopy(a.Source, claims, taken)
	}
	if err != nil {
		return out, err
	}
	var write []layer.Record
	at := make(map[string]int) // in write
	for _, c := range claims {
		if by, is := taken[c.Name]; is {
			c.refuse(NameTaken, by.fields, by.fix, "%s", by.message)
			out.Invalid++
			continue // told, and the layer that has the name stays as it is
		}
		if c.Format == layer.FormatInvalid {
			out.Invalid++
		}
		if n := len(c.Name); n == 0 || n > maxLayerNameBytes {
			continue // told, but there is no name to keep it under
		}
		old, exists := before[c.Name]
		switch {
		case !exists:
			out.Added++
			c.Generation = 1
		case sameFacts(old, c.Record):
			out.Unchanged++
			c.Generation, c.UpdateTime = old.Generation, old.UpdateTime
			if sameObservations(old, c.Record) {
				continue
			}
		default:
			out.Changed++
			c.Generation = old.Generation + 1
		}
		at[c.Name] = len(write)
		write = append(write, c.Record)
	}
	gone, err := goneFrom(ctx, tx, a.Source, oid, names)
	if err != nil {
		return out, err
	}
	write = append(write, gone...)
	if !a.DryRun {
		if err := tx.Save(ctx, write); err != nil {
			return out, err
		}
	}
	out.Layers = make([]layer.Layer, len(claims))
	for i, c := range claims {
		out.Layers[i] = c.Layer
		if w, ok := at[c.Name]; ok {
			out.Layers[i].UpdateTime, out.Layers[i].Generation = write[w].UpdateTime, write[w].Generation
		}
	}
	return out, nil
}

// taker is who has the name of a layer already.
type taker struct {
	message, fix string
	fields       fields
}

// takenNames gives the names that another catalog, or a registration, has given: which
// of the two a reader means could only be guessed. A catalog table that no longer
// exists gives its names free.
func takenNames(ctx context.Context, tx Tx, source layer.Table, oid uint32, known []layer.Record) (map[string]taker, error) {
	taken := make(map[string]taker)
	var others []layer.Table
	var names []string
	for _, r := range known {
		if r.Source.Registered() {
			taken[r.Name] = taker{"a layer of this name was registered by itself, and stays as it is",
				"drop that layer, or rename the row of the catalog, and adopt again", nil}
		} else if r.Source.Table != source && r.Source.OID != oid {
			others = append(others, r.Source.Table)
			names = append(names, r.Name)
		}
	}
	relations, err := tx.Relations(ctx, others)
	if err != nil {
		return nil, err
	}
	for i, r := range relations {
		if r.Found {
			taken[names[i]] = taker{fmt.Sprintf("a layer of this name is adopted from %s already, and stays as it is; a name can be adopted from one catalog only", others[i]),
				"rename the row in one of the two catalogs, and adopt again", fields{"catalog": others[i]}}
		}
	}
	return taken, nil
}

// refuseCopy refuses a catalog of which no row can be kept, since each is that of
// another catalog too: it is a copy, or the other one is.
func refuseCopy(source layer.Table, claims []*Claim, taken map[string]taker) error {
	for _, c := range claims {
		if _, is := taken[c.Name].fields["catalog"]; !is {
			return nil
		}
	}
	if len(claims) == 0 {
		return nil
	}
	name := claims[0].Name
	other := taken[name].fields["catalog"]
	return fault.New(fault.Exists, fault.LayerAmbiguous,
		"layer %q is already adopted from %v, and so is every layer of %s from there or from another catalog; a name can be adopted from one catalog only", name, other, source).
		With("layer", name).With("catalog", other)
}

// goneFrom gives the layers of this catalog that it no longer lists, marked.
func goneFrom(ctx context.Context, tx Tx, source layer.Table, oid uint32, listed []string) ([]layer.Record, error) {
	names, err := tx.LayersOf(ctx, source, oid)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(n string) bool {
		_, found := slices.BinarySearch(listed, n)
		return found
	})
	records, err := tx.Layers(ctx, names)
	if err != nil {
		return nil, err
	}
	var marked []layer.Record
	for _, r := range records {
		if p := rowGone(r); !slices.ContainsFunc(r.Problems, func(q layer.Problem) bool { return q.Code == p.Code }) {
			r.Problems = append(r.Problems, p)
			marked = append(marked, r)
		}
	}
	return marked, nil
}

func rowGone(r layer.Record) layer.Problem {
	return problem(CatalogRowGone, layer.Warning, fields{"catalog": r.Source.Table}, "drop the layer, or restore the row and adopt again",
		"the catalog %s no longer lists it; what is known is of the last adoption", r.Source.Table)
}
