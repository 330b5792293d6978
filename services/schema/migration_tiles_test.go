package schema_test

import (
	"testing"

	"connectrpc.com/connect"

	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
)

// An existing catalog goes on naming the table of which tiles were made: adoption
// knows, and keeps the layer, until the migration is undone, or for ever; a table
// that somebody made since under the name is not guessed about.
func TestAdoptionKnowsWhatBecameTiles(t *testing.T) {
	w := newWorld(t)
	w.legacy("passthrough_birds")
	w.add(row{name: "birds", metadata: `{"passthrough": true}`})
	w.adopt()
	c, ctx := w.migrations(connect.WithGRPC()), t.Context()
	spec := &schemav1.MigrationSpec{Layer: "birds", Level: schemav1.MigrationLevel_MIGRATION_LEVEL_TILED}
	same := func(when string, format layerv1.Format, generation int64) {
		t.Helper()
		detected, _ := w.detect("birds", true)
		if a := w.adopt(); a.GetChanged() != 0 || a.GetUnchanged() != 1 {
			t.Errorf("%s adoption finds %d changed: %v", when, a.GetChanged(), w.layer("birds"))
		}
		if l := w.layer("birds"); l.GetFormat() != format || l.GetGeneration() != generation || detected.GetFormat() != format || len(codes(detected)) != 0 {
			t.Errorf("%s the layer is %v, and found to be %v", when, l, detected)
		}
	}
	toTiles := func(key string) *schemav1.Migration {
		t.Helper()
		began, err := c.StartMigration(ctx, connect.NewRequest(&schemav1.StartMigrationRequest{Spec: spec, IdempotencyKey: key}))
		if err != nil {
			t.Fatal(err)
		}
		m := watch(ctx, t, c, began.Msg.GetMigration().GetId())
		if m.GetState() != schemav1.MigrationState_MIGRATION_STATE_VERIFIED || m.GetLevel() != spec.GetLevel() || m.GetTiles() == nil || m.GetVerification().GetTiles() != 1 {
			t.Fatalf("it stands at %v", m)
		}
		over, err := c.CutOver(ctx, connect.NewRequest(&schemav1.CutOverRequest{Id: m.GetId(), Etag: m.GetEtag()}))
		if err != nil {
			t.Fatal(err)
		}
		return over.Msg.GetMigration()
	}
	m := toTiles("k")
	same("after the cut-over", layerv1.Format_FORMAT_TILED, 2)
	if _, err := c.Rollback(ctx, connect.NewRequest(&schemav1.RollbackRequest{Id: m.GetId(), Etag: m.GetEtag()})); err != nil {
		t.Fatal(err)
	}
	same("after the rollback", layerv1.Format_FORMAT_LEGACY, 3)

	m = toTiles("k2")
	finalize := &schemav1.FinalizeRequest{Id: m.GetId(), Etag: m.GetEtag(), DropOldTable: true}
	_, err := c.Finalize(ctx, connect.NewRequest(finalize))
	if f := wantError(t, err, connect.CodeInvalidArgument, "INVALID_ARGUMENT"); f["field"] != "drop_name" {
		t.Errorf("fields %v", f)
	}
	finalize.DropName = true
	if _, err := c.Finalize(ctx, connect.NewRequest(finalize)); err != nil {
		t.Fatal(err)
	}
	same("in the end", layerv1.Format_FORMAT_TILED, 4)
	_, err = c.StartMigration(ctx, connect.NewRequest(&schemav1.StartMigrationRequest{Spec: spec, IdempotencyKey: "k3"}))
	if f := wantError(t, err, connect.CodeFailedPrecondition, "MIGRATION_REFUSED"); f["refusals"] != "ALREADY_TILED" {
		t.Errorf("fields %v", f)
	}
	w.exec("CREATE VIEW public.passthrough_birds AS SELECT 1 AS row_idx")
	same("with a view under the name", layerv1.Format_FORMAT_TILED, 4)
	w.exec("DROP VIEW public.passthrough_birds")
	w.legacy("passthrough_birds")
	w.adopt()
	problemOf(t, w.layer("birds"), "TABLE_AMBIGUOUS")
}

// cutOverToTiles adopts birds, migrates them to tiles, and cuts them over.
func (w *world) cutOverToTiles() (schemav1connect.MigrationServiceClient, *schemav1.Migration) {
	w.t.Helper()
	w.legacy("passthrough_birds")
	w.add(row{name: "birds", metadata: `{"passthrough": true}`})
	w.adopt()
	c, ctx := w.migrations(connect.WithGRPC()), w.t.Context()
	began, err := c.StartMigration(ctx, connect.NewRequest(&schemav1.StartMigrationRequest{
		Spec: &schemav1.MigrationSpec{Layer: "birds", Level: schemav1.MigrationLevel_MIGRATION_LEVEL_TILED}, IdempotencyKey: "k",
	}))
	if err != nil {
		w.t.Fatal(err)
	}
	m := watch(ctx, w.t, c, began.Msg.GetMigration().GetId())
	over, err := c.CutOver(ctx, connect.NewRequest(&schemav1.CutOverRequest{Id: m.GetId(), Etag: m.GetEtag()}))
	if err != nil {
		w.t.Fatal(err)
	}
	return c, over.Msg.GetMigration()
}

// A migration whose table somebody dropped is ended as the request says: the flags
// arrive.
func TestFinalizeWithoutTheTable(t *testing.T) {
	w := newWorld(t)
	c, m := w.cutOverToTiles()
	ctx := t.Context()
	// Paused, so that no worker makes the tile before the table goes.
	paused, err := c.PauseMigration(ctx, connect.NewRequest(&schemav1.PauseMigrationRequest{Id: m.GetId(), Etag: m.GetEtag()}))
	if err != nil {
		t.Fatal(err)
	}
	w.exec("UPDATE public.passthrough_birds SET value = 7")
	w.exec("DROP TABLE public.passthrough_birds")
	finalize := &schemav1.FinalizeRequest{Id: m.GetId(), Etag: paused.Msg.GetMigration().GetEtag(), DropOldTable: true, DropName: true}
	_, err = c.Finalize(ctx, connect.NewRequest(finalize))
	if f := wantError(t, err, connect.CodeFailedPrecondition, "MIGRATION_REFUSED"); f["tiles"] != "1" || f["refusals"] != "TILES_LAG" {
		t.Errorf("fields %v", f)
	}
	finalize.LoseWrites = true
	ended, err := c.Finalize(ctx, connect.NewRequest(finalize))
	if err != nil || ended.Msg.GetMigration().GetState() != schemav1.MigrationState_MIGRATION_STATE_FINALIZED {
		t.Fatal(ended, err)
	}
	if l := w.layer("birds"); l.GetFormat() != layerv1.Format_FORMAT_TILED {
		t.Errorf("the layer is %v", l)
	}
}
