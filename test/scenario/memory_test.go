package scenario

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/jackc/pgx/v5/pgxpool"

	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// bulky makes a database with two layers of so many rows of 1,000 cells: one
// with a key, read in slices, and one without, sorted by the server. Zeros are
// values, and every tenth cell is absent.
func bulky(t *testing.T, rows int) string {
	t.Helper()
	url := pgtest.URL(t)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	exec := func(sql string) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(catalog)
	for name, key := range map[string]string{"keyed": "ALTER TABLE public.resampled_keyed ADD PRIMARY KEY (row_idx, col_idx)", "keyless": ""} {
		exec(fmt.Sprintf(`INSERT INTO public.resampled_datasets
			(name, target_crs, bounds, shape_height, shape_width, data_type, data_table_name, metadata)
			VALUES ('%s', 'EPSG:3035', ARRAY[0, 0, 1000, %d], %d, 1000, 'float64', 'resampled_%s', '{}')`, name, rows, rows, name))
		exec(fmt.Sprintf(`CREATE TABLE public.resampled_%s AS SELECT r AS row_idx, c AS col_idx, ((r * 7 + c) %% 100)::float8 AS value
			FROM generate_series(0, %d) r, generate_series(0, 999) c WHERE (r + c) %% 10 <> 0`, name, rows-1))
		if key != "" {
			exec(key)
		}
		exec("ANALYZE public.resampled_" + name)
	}
	return url
}

// residentKiB is the memory that a process has now.
func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ps", "-o", "rss=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		t.Fatal(err)
	}
	kib, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	return kib
}

// The memory of the process must not follow the number of rows: ten times the
// rows (in `make memory` a hundred: 100 million cells a layer against one) may
// take a tenth more, and what the collector's timing adds.
func TestMemoryDoesNotFollowTheRows(t *testing.T) {
	bin := binaries(t)
	peak := func(rows int) (kib int) {
		s := oneProcess(t, bin, bulky(t, rows))
		if _, err := s.schemaClient().AdoptCatalog(t.Context(), connect.NewRequest(&schemav1.AdoptCatalogRequest{})); err != nil {
			t.Fatal(err)
		}
		client := s.flightClient(t)
		command := []byte(`{"layers": [{"name": "keyed"}, {"name": "keyless"}], "endpoints": 1}`)
		info, err := client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: command})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := client.DoGet(t.Context(), info.GetEndpoint()[0].GetTicket())
		if err != nil {
			t.Fatal(err)
		}
		reader, err := flight.NewRecordReader(stream)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Release()
		var read int64
		var last []byte
		for reader.Next() {
			read += reader.RecordBatch().NumRows()
			last = reader.LatestAppMetadata()
			kib = max(kib, residentKiB(t, s.pid))
		}
		trailer := struct{ Complete bool }{}
		if err := json.Unmarshal(last, &trailer); reader.Err() != nil || err != nil || !trailer.Complete || read != int64(rows)*900 {
			t.Fatalf("%d rows were read, want %d; trailer %s, %v", read, rows*900, last, reader.Err())
		}
		t.Logf("%d rows of a table: %d KiB", read, kib)
		return kib
	}
	small, large := peak(times(400, 1000)), peak(times(4000, 100_000))
	if limit := small + small/10 + 16<<10; large > limit {
		t.Errorf("many times the rows took %d KiB of memory, against %d KiB; the limit is %d", large, small, limit)
	}
}

// manyLayers makes a database with 40 layers over one table of so many rows of
// 500 cells.
func manyLayers(t *testing.T, rows int) string {
	t.Helper()
	url := pgtest.URL(t)
	pool := pgtest.Connect(t, url)
	for _, sql := range []string{
		catalog,
		fmt.Sprintf(`CREATE TABLE public.resampled_shared AS SELECT r AS row_idx, c AS col_idx, ((r * 7 + c) %% 100)::float8 AS value
			FROM generate_series(0, %d) r, generate_series(0, 499) c`, rows-1),
		"ALTER TABLE public.resampled_shared ADD PRIMARY KEY (row_idx, col_idx)",
		"ANALYZE public.resampled_shared",
		fmt.Sprintf(`INSERT INTO public.resampled_datasets
			(name, target_crs, bounds, shape_height, shape_width, data_type, data_table_name, metadata)
			SELECT 'layer_' || i, 'EPSG:3035', ARRAY[0, 0, 500, %[1]d], %[1]d, 500, 'float64', 'resampled_shared', '{}' FROM generate_series(1, 40) i`, rows),
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return url
}

// Nor do 40 layers take more of it the longer they are, and never more than the
// budget and a tenth.
func TestMemoryOfManyLayers(t *testing.T) {
	const budget = 512 << 10 // KiB
	bin := binaries(t)
	peak := func(rows int) (kib int) {
		s := oneProcess(t, bin, manyLayers(t, rows))
		if _, err := s.schemaClient().AdoptCatalog(t.Context(), connect.NewRequest(&schemav1.AdoptCatalogRequest{})); err != nil {
			t.Fatal(err)
		}
		var names []string
		for i := range 40 {
			names = append(names, fmt.Sprintf(`{"name": "layer_%d"}`, i+1))
		}
		client := s.flightClient(t)
		command := []byte(`{"layers": [` + strings.Join(names, ", ") + `], "endpoints": 1}`)
		info, err := client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: command})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := client.DoGet(t.Context(), info.GetEndpoint()[0].GetTicket())
		if err != nil {
			t.Fatal(err)
		}
		reader, err := flight.NewRecordReader(stream)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Release()
		var read int64
		for reader.Next() {
			read += reader.RecordBatch().NumRows()
			kib = max(kib, residentKiB(t, s.pid))
		}
		if reader.Err() != nil || read != int64(rows)*500 {
			t.Fatalf("%d rows were read, want %d: %v", read, rows*500, reader.Err())
		}
		t.Logf("40 layers of %d cells: %d KiB", rows*500, kib)
		return kib
	}
	// In `make memory` the short ones, of a million cells, are long enough for the
	// collector to have gone round once.
	small, large := peak(times(100, 2000)), peak(times(400, 9000))
	if limit := min(small+small/10+16<<10, budget+budget/10); large > limit {
		t.Errorf("layers many times as long took %d KiB of memory, against %d KiB; the limit is %d", large, small, limit)
	}
}
