package catalog

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// Registration says what a pixel table holds that no existing catalog lists.
// Columns, types, key and format are read off the table.
type Registration struct {
	Name, Band   string
	Table        layer.Table
	Grid         grid.Grid // valid
	DeclaredType layer.DataType
	Nodata       *float64
	// Registration and SouthUp are what the coordinates must say; unknown and nil:
	// whatever they say. A table without coordinates has no registration.
	Registration grid.Registration
	SouthUp      *bool
	// DryRun writes nothing.
	DryRun bool
}

// Registered says what became of it.
type Registered struct {
	Layer    layer.Layer
	Added    bool // false when it was registered before
	RowsRead int64
}

// Register takes one table into the catalog, after reading every row of it. What
// adoption would tell as a critical problem is refused here. Repeating it changes
// nothing unless the table has changed: the layer gets a new generation then.
//
// Errors: Invalid INVALID_ARGUMENT (impossible names), Denied (system schemas;
// permissions), NotFound TABLE_NOT_FOUND, Exists LAYER_EXISTS (another layer has
// the name), Precondition LAYER_UNREADABLE, DUPLICATE_CELL and CELL_OFF_GRID with
// counts, Conflict LAYER_CHANGED when the table is altered meanwhile, and as any
// query.
func (k *Keeper) Register(ctx context.Context, r Registration) (Registered, error) {
	if r.Table.Schema == "" {
		r.Table.Schema = DefaultSource.Schema
	}
	if err := checkRegistration(r); err != nil {
		return Registered{}, err
	}
	// Reading every row takes its time: adoptions need not wait for it.
	c, err := k.inspect(ctx, r)
	if err != nil {
		return Registered{}, err
	}
	begin := k.store.Change
	if r.DryRun {
		begin = k.store.Look
	}
	tx, err := begin(ctx)
	if err != nil {
		return Registered{}, err
	}
	defer tx.Rollback(ctx)
	if err := unaltered(ctx, tx, c); err != nil {
		return Registered{}, err
	}
	out, err := k.enter(ctx, tx, r, c)
	if err != nil || r.DryRun {
		return out, err
	}
	return out, tx.Commit(ctx)
}

// inspect reads the table, and refuses what cannot become a layer.
func (k *Keeper) inspect(ctx context.Context, r Registration) (*Claim, error) {
	tx, err := k.store.Look(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(ctx)
	if _, _, err := registeredBefore(ctx, tx, r); err != nil {
		return nil, err
	}
	c := claimOf(r)
	if err := examine(ctx, tx, []*Claim{c}, true); err != nil {
		return nil, err
	}
	if err := c.refusal(); err != nil {
		return nil, err
	}
	if err := c.agree(r); err != nil {
		return nil, err
	}
	others, err := tx.LayersOfTable(ctx, c.Table)
	if err != nil {
		return nil, err
	}
	if others = slices.DeleteFunc(others, func(name string) bool { return name == r.Name }); len(others) > 0 {
		c.find(TableShared, layer.Warning, fields{"other": others[0], "layers": len(others) + 1}, "",
			"its table %s is that of the layer %q too", c.Table, others[0])
	}
	return c, nil
}

// unaltered refuses a table that is another one, or has other columns, than the
// one that was read.
func unaltered(ctx context.Context, tx Tx, c *Claim) error {
	now, err := tx.Relations(ctx, []layer.Table{c.Table})
	if err != nil {
		return err
	}
	again := claimOf(Registration{Name: c.Name, Table: c.Table, Grid: c.Grid})
	again.Settle(now)
	if again.TableOID != c.TableOID || again.TableFile != c.TableFile || again.StoredType != c.StoredType ||
		again.HasIndices != c.HasIndices || again.HasCoordinates != c.HasCoordinates || again.HasKey != c.HasKey {
		return fault.New(fault.Conflict, fault.LayerChanged, "the table %s was altered while it was read; try again", c.Table).
			With("table", c.Table)
	}
	return nil
}

// enter writes the layer, with its generation.
func (k *Keeper) enter(ctx context.Context, tx Tx, r Registration, c *Claim) (Registered, error) {
	out := Registered{RowsRead: c.rowsRead}
	old, exists, err := registeredBefore(ctx, tx, r)
	if err != nil {
		return out, err
	}
	c.Generation = 1
	if exists {
		c.Generation, c.UpdateTime = old.Generation, old.UpdateTime
		if !sameFacts(old, c.Record) {
			c.Generation++
		}
	}
	out.Added = !exists
	records := []layer.Record{c.Record}
	if !r.DryRun && (!exists || c.Generation != old.Generation || !sameObservations(old, c.Record)) {
		if err := tx.Save(ctx, records); err != nil {
			return out, err
		}
	}
	out.Layer = records[0].Layer
	return out, nil
}

// registeredBefore gives the layer that has the name already. Another layer than
// the one of this registration is an error.
func registeredBefore(ctx context.Context, tx Tx, r Registration) (layer.Record, bool, error) {
	known, err := tx.Layers(ctx, []string{r.Name})
	if err != nil || len(known) == 0 {
		return layer.Record{}, false, err
	}
	old := known[0]
	f := fault.New(fault.Exists, fault.LayerExists, "there is a layer %q already", r.Name).
		With("layer", r.Name).With("generation", old.Generation)
	if !old.Source.Registered() {
		f.Message += fmt.Sprintf(", adopted from %s", old.Source.Table)
		return old, true, f.With("catalog", old.Source.Table)
	}
	declared := r.DeclaredType
	if declared == layer.TypeUnknown {
		declared = old.StoredType
	}
	var other []string
	for _, fact := range []struct {
		name string
		same bool
	}{
		{"table", old.Table == r.Table},
		{"grid", old.Grid == r.Grid},
		{"band", old.Band == r.Band},
		{"declared_type", old.DeclaredType == declared},
		{"nodata", sameOptional(old.Nodata, r.Nodata)},
	} {
		if !fact.same {
			other = append(other, fact.name)
		}
	}
	if len(other) == 0 {
		return old, true, nil
	}
	list := strings.Join(other, ", ")
	f.Message += fmt.Sprintf(" with another %s; drop it first", list)
	return old, true, f.With("differs", list)
}

// claimOf is the claim of a registration.
func claimOf(r Registration) *Claim {
	c := &Claim{
		Record: layer.Record{Layer: layer.Layer{
			Name: r.Name, Band: r.Band, Grid: r.Grid, HasGrid: true, Table: r.Table,
			DeclaredType: r.DeclaredType, Nodata: r.Nodata, EstimatedRows: -1,
		}},
		meta:       metadata{southUp: r.SouthUp},
		Candidates: []layer.Table{r.Table},
	}
	if strings.TrimSpace(r.Grid.CRS) == "" {
		c.find(CRSMissing, layer.Warning, nil, "drop the layer, and register it with its CRS",
			"it has no CRS, so how it lies to other layers cannot be told")
	}
	return c
}

// concludeRegistered ends the claim of a layer that was registered before. What
// rows cannot say any more, because there are none, stays as it was.
func (c *Claim) concludeRegistered(old layer.Record) {
	if c.located && c.Registration == grid.RegistrationUnknown {
		c.Registration = old.Registration
	}
	for i, p := range c.Problems {
		switch p.Code { // whose fix is in a catalog that this layer has none of
		case TableMissing, TableKind, ColumnMissing, ColumnType, CellsOutsideGrid, CoordinatesOffGrid, OrientationConflict:
			c.Problems[i].Fix = "mend the table, or drop the layer and register what there is"
		}
	}
}

// agree compares what was said about the coordinates with what they say.
func (c *Claim) agree(r Registration) error {
	if c.DeclaredType == layer.TypeUnknown {
		c.DeclaredType = c.StoredType
	}
	disagree := func(code, field, said, found string) error {
		return fault.New(fault.Precondition, fault.LayerUnreadable,
			"layer %q: its registration says %s %s, and the stored coordinates say %s", r.Name, field, said, found).
			With("layer", r.Name).With("problem", code).With("field", field).With("said", said).With("found", found).With("rows_read", c.rowsRead)
	}
	for _, p := range c.Problems {
		if p.Code == OrientationConflict {
			return disagree(p.Code, "south_up", fmt.Sprint(*r.SouthUp), fmt.Sprint(!*r.SouthUp))
		}
	}
	switch stated := r.Registration; {
	case stated == grid.RegistrationUnknown || stated == c.Registration:
	case !c.located:
		return fault.New(fault.Precondition, fault.LayerUnreadable,
			"layer %q: its registration says that stored coordinates are %s, and its table stores none", r.Name, stated).
			With("layer", r.Name).With("problem", ColumnMissing).With("field", "registration").With("said", stated)
	case c.Registration == grid.RegistrationUnknown:
		c.Registration = stated // no row says otherwise
	default:
		return disagree(RegistrationCorner, "registration", stated.String(), c.Registration.String())
	}
	return nil
}

// refusal is the fault of a claim with critical problems: the first one in words,
// the codes of all as a field.
func (c *Claim) refusal() error {
	var critical []layer.Problem
	var codes []string
	for _, p := range c.Problems {
		if p.Severity == layer.Critical {
			critical = append(critical, p)
			codes = append(codes, p.Code)
		}
	}
	if len(critical) == 0 {
		return nil
	}
	first := critical[0]
	kind, reason := fault.Precondition, fault.LayerUnreadable
	switch first.Code {
	case TableMissing:
		kind, reason = fault.NotFound, fault.TableNotFound
	case TablePermission:
		kind, reason = fault.Denied, fault.DatabasePermission
	case DuplicateCells:
		reason = fault.DuplicateCell
	case CellsOutsideGrid:
		reason = fault.CellOffGrid
	}
	messages := make([]string, len(critical))
	for i, p := range critical {
		messages[i] = p.Message
	}
	f := fault.New(kind, reason, "layer %q: %s", c.Name, strings.Join(messages, "; "))
	for _, p := range slices.Backward(critical) { // the fields of the first one last: they win
		for key, value := range p.Fields {
			f = f.With(key, value)
		}
	}
	return f.With("layer", c.Name).With("table", c.Table).With("problem", first.Code).With("problems", strings.Join(codes, ", "))
}

// checkRegistration refuses names before anything is asked of the database. They
// are narrower than those of adopted layers, which are as they are: a registered
// name can be an identifier, and none passes for SQL.
func checkRegistration(r Registration) error {
	for _, n := range []struct{ field, name, not string }{
		{"name", r.Name, `"'` + "`" + `\;`},
		{"table.schema", r.Table.Schema, `"'` + "`" + `\;.`},
		{"table.name", r.Table.Name, `"'` + "`" + `\;.`},
	} {
		if err := checkName(n.field, n.name, n.not); err != nil {
			return err
		}
	}
	if err := checkCRSLength(r.Grid.CRS); err != nil {
		return err
	}
	return checkSchema(r.Table.Schema)
}

// checkName refuses a name that cannot be an identifier, holds one of the
// characters of not, or names something temporary.
func checkName(field, name, not string) error {
	flaw := flawOf(name, maxIdentifierBytes)
	if i := strings.IndexAny(name, not); flaw == "" && i >= 0 {
		flaw = fmt.Sprintf("holds the character %q, which it may not", name[i])
	}
	if flaw == "" && strings.HasPrefix(strings.ToLower(name), "pg_temp.") {
		flaw = "is of temporary tables, which end with their session"
	}
	if flaw != "" {
		return fault.New(fault.Invalid, fault.InvalidArgument, "%s %s", field, flaw).With("field", field).With("value", shorten(name))
	}
	return nil
}

func checkCRSLength(crs string) error {
	if len(crs) > maxCRSBytes {
		return fault.New(fault.Invalid, fault.InvalidGrid, "crs has %d bytes, and the limit is %d", len(crs), maxCRSBytes).
			With("field", "crs").With("value", len(crs)).With("limit", maxCRSBytes)
	}
	return nil
}
