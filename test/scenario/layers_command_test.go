package scenario

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// Registering, checking and dropping a layer by the command line.
func TestLayersCommand(t *testing.T) {
	address := pgtest.URL(t)
	pool := pgtest.Connect(t, address)
	for _, sql := range []string{
		`CREATE TABLE public.loose (row_idx int, col_idx int, x_coord float8, y_coord float8, value real, PRIMARY KEY (row_idx, col_idx))`,
		`INSERT INTO public.loose SELECT r, c, 1000 + (c + 0.5::float8) * 10, 2000 - (r + 0.5::float8) * 10, r FROM generate_series(0, 29) r, generate_series(0, 39) c`,
		`CREATE TABLE public.bare AS SELECT row_idx, col_idx, value FROM public.loose`,
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	bin := binaries(t)
	s := oneProcess(t, bin, address)
	box, at := "--bounds=1000,1700,1400,2000", "--url="+s.schema
	damage := func(sql string) func() {
		return func() {
			if _, err := pool.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		before func()
		args   []string
		status int
		out    []string // in this order
		err    []string
	}{
		{"dry run", nil, []string{"register", "birds", "public.loose", box, "--shape=30,40", "--dry-run"}, 0, []string{"birds", "Would register after reading 1,200 rows"}, nil},
		{"nothing was kept", nil, []string{"list"}, 0, []string{"No layers"}, nil},
		{"by shape", nil, []string{"register", "birds", "public.loose", box, "--shape=30,40", "--crs=EPSG:32633", "--nodata=-9999", "--registration=center"}, 0, []string{"coordinate", "-9999", "naming the centre", "Registered after reading 1,200 rows"}, nil},
		{"by resolution", nil, []string{"register", "plants", "bare", box, "--resolution=10", "--crs=EPSG:32633", "--south-up", "--type=uint8"}, 0, []string{"legacy", "float32 stored, uint8 in the source", "from south to north", "Registered"}, nil},
		{"again", nil, []string{"register", "birds", "loose", box, "--resolution=10", "--crs=EPSG:32633", "--nodata=-9999"}, 0, []string{"Registered before; looked at again"}, nil},
		{"other facts", nil, []string{"register", "birds", "loose", box, "--resolution=10"}, 1, nil, []string{"another", "grid", "LAYER_EXISTS"}},
		{"a part of a cell", nil, []string{"register", "x", "loose", box, "--resolution=7"}, 1, nil, []string{"42.857143 rows", "INVALID_GRID"}},
		{"too small a grid", nil, []string{"register", "x", "loose", "--bounds=1000,1800,1400,2000", "--resolution=10"}, 1, nil, []string{"400 of 1200 rows", "CELL_OFF_GRID"}},
		{"no table", nil, []string{"register", "x", "none", box, "--resolution=10"}, 1, nil, []string{"public.none", "TABLE_NOT_FOUND"}},
		{"shape and resolution", nil, []string{"register", "x", "loose", box, "--resolution=10", "--shape=1,2"}, 2, nil, []string{"--resolution"}},
		{"half a shape", nil, []string{"register", "x", "loose", box, "--shape=30"}, 1, nil, []string{"must have 2"}},
		{"check", nil, []string{"check", "--scan", "--coordinates"}, 0, []string{"birds", "1,200", "1,200", "0", "center", "plants", "implied by the grid", "SOUTH_UP"}, nil},
		{"check what is wrong", damage(`UPDATE public.loose SET x_coord = x_coord + 3 WHERE row_idx = 7`), []string{"check", "birds", "--coordinates"}, 1, []string{"1,160", "40", "0.3, 0", "COORDINATES_OFF_GRID", "40 of 1200 rows", "1008, 1925", "1005, 1925", "and 30 rows more"}, []string{"1 layer with critical problems", `"birds"`}},
		{"a wider tolerance", nil, []string{"check", "birds", "--coordinates", "--tolerance=0.4"}, 0, []string{"birds"}, nil},
		{"too wide a tolerance", nil, []string{"check", "birds", "--coordinates", "--tolerance=1"}, 1, nil, []string{"tolerance_pixels is 1", "INVALID_ARGUMENT"}},
		{"a row twice", damage(`INSERT INTO public.bare SELECT * FROM public.bare WHERE row_idx = 3`), []string{"check", "plants", "--scan"}, 1, []string{"DUPLICATE_CELLS", "40 cells"}, []string{"critical"}},
		{"another generation", nil, []string{"drop", "birds", "--generation=7"}, 1, nil, []string{"generation 1", "LAYER_CHANGED"}},
		{"drop", nil, []string{"drop", "birds", "--generation=1"}, 0, []string{"Dropped the layer birds, generation 1", "public.loose is untouched"}, nil},
		{"drop again", nil, []string{"drop", "birds"}, 1, nil, []string{"birds", "LAYER_NOT_FOUND"}},
		{"what is left", nil, []string{"list"}, 0, []string{"plants"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.before != nil {
				c.before()
			}
			got := command(t, bin, append(append([]string{"layers"}, c.args...), at)...)
			if got.status != c.status {
				t.Errorf("status %d, want %d", got.status, c.status)
			}
			for _, stream := range []struct {
				said string
				want []string
			}{{got.out, c.out}, {got.err, c.err}} {
				rest := stream.said
				for _, w := range stream.want {
					_, after, found := strings.Cut(rest, w)
					if !found {
						t.Errorf("no %q (after what comes before it) in:\n%s", w, stream.said)
						break
					}
					rest = after
				}
			}
			if c.status == 0 && got.err != "" {
				t.Errorf("said on stderr: %s", got.err)
			}
		})
	}
	for _, c := range []struct {
		args   []string
		status int
	}{
		{[]string{"register", "birds", "loose", box, "--resolution=10"}, 0},
		{[]string{"check", "birds", "--coordinates"}, 1},
		{[]string{"drop", "birds"}, 0},
	} {
		got := command(t, bin, append(append([]string{"layers"}, c.args...), at, "--output=json")...)
		if !json.Valid([]byte(got.out)) || got.status != c.status {
			t.Errorf("%v: status %d, %s%s", c.args, got.status, got.out, got.err)
		}
		if c.args[0] != "check" {
			continue
		}
		var said struct {
			Layers []struct {
				Critical    bool
				Coordinates struct {
					Wrong     string
					Offenders []struct{ Row, Col string }
				}
			}
		}
		if err := json.Unmarshal([]byte(got.out), &said); err != nil || len(said.Layers) != 1 || !said.Layers[0].Critical ||
			said.Layers[0].Coordinates.Wrong != "40" || len(said.Layers[0].Coordinates.Offenders) != 40 {
			t.Errorf("%v: %v in %s", c.args, err, got.out)
		}
	}
}
