package pgstore

import (
	"testing"

	"github.com/rasterloom/rasterloom/fault"
)

// One layer is ingested by one stream at a time. One that comes just as another ends
// gets its turn; other waits for locks are as long as ever.
func TestIngestsOfALayerExcludeEachOther(t *testing.T) {
	t.Parallel()
	reader, pool := newReader(t, CellOptions{})
	s := reader.store
	first, err := s.Ingest(t.Context(), "birds")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Ingest(t.Context(), "birds")
	if f := fault.From(err); f == nil || f.Reason != fault.LayerChanged || f.Fields["layer"] != "birds" {
		t.Errorf("error %v, want that another one is at it", err)
	}
	beside, err := s.Ingest(t.Context(), "plants")
	if err != nil {
		t.Fatal(err)
	}
	beside.Rollback(t.Context())

	type begun struct {
		tx  *IngestTx
		err error
	}
	next := make(chan begun)
	go func() {
		tx, err := s.Ingest(t.Context(), "birds")
		next <- begun{tx, err}
	}()
	for waiting := 0; waiting == 0; {
		if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	first.Rollback(t.Context())
	second := <-next
	if second.err != nil {
		t.Fatal(second.err)
	}
	defer second.tx.Rollback(t.Context())
	var now, usual string
	if err := second.tx.tx.QueryRow(t.Context(), "SELECT current_setting('lock_timeout'), (SELECT reset_val || unit FROM pg_settings WHERE name = 'lock_timeout')").Scan(&now, &usual); err != nil || now != "5s" || usual != "5000ms" {
		t.Errorf("lock_timeout is %s, and %s by default (%v)", now, usual, err)
	}
}
