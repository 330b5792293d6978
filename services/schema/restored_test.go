package schema_test

import (
	"testing"

	"connectrpc.com/connect"

	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// restored is the world in a database that was made of a dump of it.
func (w *world) restored() *world {
	w.t.Helper()
	r := &world{t: w.t, url: pgtest.Restored(w.t, w.url)}
	r.pool = pgtest.Connect(w.t, r.url)
	r.client = serve(w.t, r.url)
	return r
}

// After a restore tables have other oids. Adoption, which is to be repeated then,
// finds the tiles of a table that was migrated, whether that is over or not: they may
// be the only copy.
func TestAdoptionKnowsWhatBecameTilesAfterARestore(t *testing.T) {
	w := newWorld(t)
	c, m := w.cutOverToTiles()
	ctx := t.Context()
	tiled := func(when string, w *world) {
		t.Helper()
		a := w.adopt()
		l := w.layer("birds")
		if a.GetInvalid() != 0 || l.GetFormat() != layerv1.Format_FORMAT_TILED || len(codes(l)) != 0 {
			t.Errorf("%s the layer is %v", when, l)
		}
		if again := w.adopt(); again.GetUnchanged() != 1 {
			t.Errorf("%s adoption changes the layer each time: %v", when, again)
		}
		if detected, _ := w.detect("birds", true); detected.GetFormat() != layerv1.Format_FORMAT_TILED || len(codes(detected)) != 0 {
			t.Errorf("%s the layer is found to be %v", when, detected)
		}
	}
	back := w.restored()
	tiled("cut over and restored", back)
	// It is resumed and rolled back there.
	there := back.migrations(connect.WithGRPC())
	rollback := &schemav1.RollbackRequest{Id: m.GetId(), Etag: m.GetEtag()}
	_, err := there.Rollback(ctx, connect.NewRequest(rollback))
	if f := wantError(t, err, connect.CodeAborted, "LAYER_CHANGED"); f["restored"] != "true" {
		t.Errorf("fields %v", f)
	}
	resumed, err := there.ResumeMigration(ctx, connect.NewRequest(&schemav1.ResumeMigrationRequest{Id: m.GetId(), Etag: rollback.Etag}))
	if err != nil {
		t.Fatal(err)
	}
	rollback.Etag = resumed.Msg.GetMigration().GetEtag()
	if _, err := there.Rollback(ctx, connect.NewRequest(rollback)); err != nil {
		t.Fatal(err)
	}
	if a := back.adopt(); a.GetUnchanged() != 1 || back.layer("birds").GetFormat() != layerv1.Format_FORMAT_LEGACY {
		t.Errorf("rolled back it is %v", a)
	}
	if _, err := c.Finalize(ctx, connect.NewRequest(&schemav1.FinalizeRequest{
		Id: m.GetId(), Etag: m.GetEtag(), DropOldTable: true, DropName: true,
	})); err != nil {
		t.Fatal(err)
	}
	tiled("in the end", w)
	r := w.restored()
	tiled("in the end and restored", r)
	// A table of that name is another one, whatever its oid.
	r.legacy("passthrough_birds")
	r.exec("UPDATE rasterloom.migration SET old_table = 'public.passthrough_birds'::regclass")
	r.adopt()
	problemOf(t, r.layer("birds"), "TABLE_AMBIGUOUS")
}
