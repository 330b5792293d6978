package merger

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// momentSide is the side of the layers that are written while they are read.
const momentSide = 120

// writing makes two layers that hold one number in all cells, and changes it in
// both at once, over and over, until the test ends. bump also counts one of
// the layers' generations up each time.
func writing(t *testing.T, s *suite, bump bool) (names []string, stop func() (changes int)) {
	t.Helper()
	var layers []layer.Layer
	for i := range 2 {
		l := s.put(t, fmt.Sprintf("written_%d", i), layer.FormatLegacy, raster{grid: utm(momentSide, momentSide, 3e5, 5e6)})
		s.exec(t, fmt.Sprintf("INSERT INTO %s SELECT r, c, 0 FROM generate_series(0, %d) r, generate_series(0, %[2]d) c", l.Table, momentSide-1))
		s.exec(t, "ANALYZE "+l.Table.String())
		layers, names = append(layers, l), append(names, l.Name)
	}
	ctx, cancel := context.WithCancel(t.Context())
	changes := 0
	var writer sync.WaitGroup
	writer.Go(func() {
		for ctx.Err() == nil {
			err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
				for _, l := range layers {
					if _, err := tx.Exec(ctx, fmt.Sprintf("UPDATE %s SET value = %d", l.Table, changes+1)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				if ctx.Err() == nil {
					t.Error(err)
				}
				return
			}
			if changes++; bump {
				layers[changes%2].Generation++
				s.peers.put(layers[changes%2])
			}
		}
	})
	return names, func() int {
		cancel()
		writer.Wait()
		return changes
	}
}

// All layers of a stream are from one moment, though a writer changes them all
// the time; and a layer that changed is told, never mixed in.
func TestAllLayersFromOneMoment(t *testing.T) {
	t.Parallel()
	for name, bump := range map[string]bool{"values": false, "generations": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{BandBytes: 64 << 10})
			names, stop := writing(t, s, bump)
			const merges = 50
			right, aborted, mixed := 0, 0, 0
			for range merges {
				info, err := s.info(t.Context(), specOf(names...))
				if err != nil {
					t.Fatal(err)
				}
				got, err := s.get(t.Context(), info.GetEndpoint()[0].GetTicket().GetTicket())
				if status.Code(err) == codes.Aborted {
					requireStatus(t, err, codes.Aborted, "LAYER_CHANGED")
					aborted++
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				first := *got.columns[2][0]
				whole := len(got.columns[2]) == momentSide*momentSide
				for _, column := range got.columns[2:] {
					for _, v := range column {
						whole = whole && v != nil && *v == first
					}
				}
				if whole {
					right++
				} else {
					mixed++
				}
			}
			changes := stop()
			t.Logf("%d merges under %d changes: %d right, %d aborted, %d of mixed moments", merges, changes, right, aborted, mixed)
			if mixed > 0 || right+aborted != merges || changes < 2 || !bump && aborted > 0 {
				t.Error("a table holds more than one moment, or nothing was written meanwhile")
			}
		})
	}
}

// Both ways to merge are compared at one moment, whatever is written meanwhile.
func TestCompareMergeUnderAWriter(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	names, stop := writing(t, s, false)
	const times = 10
	for range times {
		answer, err := s.rpc.CompareMerge(t.Context(), connect.NewRequest(&mergerv1.CompareMergeRequest{Spec: specOf(names...)}))
		if err != nil {
			t.Fatal(err)
		}
		if !answer.Msg.GetEqual() {
			t.Fatalf("the two ways differ: %v", answer.Msg)
		}
	}
	if changes := stop(); changes < 2 {
		t.Errorf("%d changes meanwhile", changes)
	}
}
