package catalog

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/nearest"
)

const (
	defaultPage = 1000
	// nearestAmong is how many names are looked through for the nearest.
	nearestAmong = 20_000
	nearestFew   = 3
)

// Get gives layers by name, at one moment, in request order. Errors: NotFound
// LAYER_NOT_FOUND naming every unknown one, with the nearest names.
func (k *Keeper) Get(ctx context.Context, names ...string) ([]layer.Layer, error) {
	records, err := k.records(ctx, names)
	if err != nil {
		return nil, err
	}
	layers := make([]layer.Layer, len(records))
	for i, r := range records {
		layers[i] = r.Layer
	}
	return layers, nil
}

func (k *Keeper) records(ctx context.Context, names []string) ([]layer.Record, error) {
	found, err := k.store.Layers(ctx, names)
	if err != nil {
		return nil, err
	}
	byName := make(map[string]layer.Record, len(found))
	for _, r := range found {
		byName[r.Name] = r
	}
	records := make([]layer.Record, len(names))
	var unknown []string
	for i, name := range names {
		r, ok := byName[name]
		if !ok && !slices.Contains(unknown, name) {
			unknown = append(unknown, name)
		}
		records[i] = r
	}
	if len(unknown) > 0 {
		return nil, k.notFound(ctx, unknown)
	}
	return records, nil
}

// notFound names the unknown layers and those that may have been meant.
func (k *Keeper) notFound(ctx context.Context, unknown []string) error {
	names, err := k.store.LayerNames(ctx, nearestAmong)
	if err != nil {
		return err
	}
	const few = 5
	quoted := make([]string, 0, few)
	for _, name := range unknown[:min(few, len(unknown))] {
		quoted = append(quoted, fmt.Sprintf("%q", shorten(name)))
	}
	list := strings.Join(quoted, ", ")
	if len(unknown) > few {
		list += fmt.Sprintf(" and %d more", len(unknown)-few)
	}
	words := "there is no layer %s"
	if len(unknown) > 1 {
		words = "there are no layers %s"
	}
	f := fault.New(fault.NotFound, fault.LayerNotFound, words, list).With("layer", shorten(unknown[0]))
	if len(unknown) > 1 {
		f = f.With("layers", list)
	}
	if near := nearest.To(unknown[0], names, nearestFew); len(near) > 0 {
		f = f.With("nearest", strings.Join(near, ", "))
		f.Message += fmt.Sprintf("; the nearest to %s: %s", quoted[0], strings.Join(near, ", "))
	} else if len(names) == 0 {
		f.Message += "; the catalog is empty: adopt one first"
	}
	return f
}

// Listing is one page of the catalog.
type Listing struct {
	Layers []layer.Layer
	Next   string // token for the next page; empty on the last
	Total  int64  // over all pages
}

// List gives a page of layers by name. size 0 is 1,000. Errors: Invalid for a
// token that is not one of ours.
func (k *Keeper) List(ctx context.Context, f Filter, size int, token string) (Listing, error) {
	after, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(after) > maxLayerNameBytes || !utf8.Valid(after) || bytes.ContainsRune(after, 0) {
		return Listing{}, fault.New(fault.Invalid, fault.InvalidArgument, "page_token is not one that an answer had").With("field", "page_token")
	}
	if size == 0 {
		size = defaultPage
	}
	total, err := k.store.Count(ctx, f)
	if err != nil {
		return Listing{}, err
	}
	records, err := k.store.Page(ctx, f, string(after), size+1)
	if err != nil {
		return Listing{}, err
	}
	out := Listing{Total: total}
	if len(records) > size {
		records = records[:size]
		out.Next = base64.RawURLEncoding.EncodeToString([]byte(records[size-1].Name))
	}
	out.Layers = make([]layer.Layer, len(records))
	for i, r := range records {
		out.Layers[i] = r.Layer
	}
	return out, nil
}

// Detect looks at a layer's catalog row and table again and says how it is now,
// without changing our catalog. With scan it reads every row. It returns the
// number of rows read. Errors: NotFound LAYER_NOT_FOUND, and as any query.
func (k *Keeper) Detect(ctx context.Context, name string, scan bool) (layer.Layer, int64, error) {
	records, err := k.records(ctx, []string{name})
	if err != nil {
		return layer.Layer{}, 0, err
	}
	old := records[0]
	tx, err := k.store.Look(ctx)
	if err != nil {
		return layer.Layer{}, 0, err
	}
	defer tx.Rollback(ctx)
	c, err := claimAgain(ctx, tx, old)
	if err != nil {
		return layer.Layer{}, 0, err
	}
	if c == nil {
		old.Problems = append(old.Problems, rowGone(old))
		return old.Layer, 0, nil
	}
	c.Generation, c.UpdateTime = old.Generation, old.UpdateTime
	if err := examine(ctx, tx, []*Claim{c}, scan); err != nil {
		return layer.Layer{}, 0, err
	}
	if old.Source.Registered() {
		c.concludeRegistered(old)
	}
	if !sameFacts(old, c.Record) {
		c.find(FactsChanged, layer.Warning, fields{"catalog": old.Source.Table}, "adopt its catalog again, or register it again",
			"it is no longer as it was catalogued")
	}
	return c.Layer, c.rowsRead, nil
}

// claimAgain makes the claim of a layer anew, from the row of its catalog or, for
// one that was registered, from what was said then; nil when the row is gone.
func claimAgain(ctx context.Context, tx Tx, old layer.Record) (*Claim, error) {
	if old.Source.Registered() {
		return claimOf(Registration{
			Name: old.Name, Band: old.Band, Table: old.Table, Grid: old.Grid,
			DeclaredType: old.DeclaredType, Nodata: old.Nodata, SouthUp: &old.SouthUp,
		}), nil
	}
	rows, err := tx.CatalogRowsNamed(ctx, old.Source.Table, old.Name)
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Reason == fault.CatalogNotFound {
		err, rows = nil, nil
	}
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	dataSchema := old.Table.Schema
	if dataSchema == "" {
		dataSchema = old.Source.Table.Schema
	}
	if old.Format == layer.FormatTiled {
		// The existing catalog names the table of which the tiles were made.
		tiled, err := tx.TiledTables(ctx, []layer.Table{old.Table})
		if err != nil {
			return nil, err
		}
		if len(tiled) > 0 {
			dataSchema = tiled[0].Pixels.Schema
		}
	}
	c := NewClaim(rows, dataSchema)
	c.Source.Table, c.Source.OID = old.Source.Table, old.Source.OID
	return c, nil
}
