package schema_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5/pgconn"

	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
)

// counted carries connections to a database and counts how often the server is asked
// for an answer: each Sync and each simple query. It gives the address to use.
func counted(t *testing.T, address string) (through string, rounds *atomic.Int64) {
	t.Helper()
	config, err := pgconn.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "rounds") //nolint:usetesting // sockets have short names
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	rounds = new(atomic.Int64)
	var carrying sync.WaitGroup
	carrying.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			network, host := pgconn.NetworkAddress(config.Host, config.Port)
			server, err := net.Dial(network, host)
			if err != nil {
				client.Close()
				continue
			}
			carrying.Go(func() {
				defer client.Close()
				_, _ = io.Copy(client, server)
			})
			carrying.Go(func() {
				defer server.Close()
				countRounds(client, server, rounds)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		carrying.Wait()
		os.RemoveAll(dir)
	})
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Path: "/" + config.Database,
		RawQuery: url.Values{"host": {dir}}.Encode(),
	}
	return u.String(), rounds
}

// countRounds carries messages; the first of a connection has no type.
func countRounds(from io.Reader, to io.Writer, rounds *atomic.Int64) {
	r := bufio.NewReader(from)
	for head := 4; ; head = 5 {
		start, err := r.Peek(head)
		if err != nil {
			return
		}
		if head == 5 && (start[0] == 'S' || start[0] == 'Q') {
			rounds.Add(1)
		}
		if _, err := io.CopyN(to, r, int64(head-4)+int64(binary.BigEndian.Uint32(start[head-4:]))); err != nil {
			return
		}
	}
}

// However many layers a catalog has, adopting it is a matter of a few questions: a
// hundred tables are looked into at a time.
func TestAdoptionAsksManyAtOnce(t *testing.T) {
	w := newWorld(t)
	add := func(from, upto int) {
		for i := from; i < upto; i++ {
			table := fmt.Sprintf("passthrough_l%03d", i)
			w.exec(fmt.Sprintf(`CREATE TABLE public.%s (row_idx int, col_idx int, value float8, PRIMARY KEY (row_idx, col_idx))`, table))
			w.exec(fmt.Sprintf(`INSERT INTO public.%s SELECT r, c, 1 FROM generate_series(0, 3) r, generate_series(0, 5) c`, table))
			w.add(row{name: fmt.Sprintf("l%03d", i), table: table})
		}
	}
	through, rounds := counted(t, w.url)
	client := serve(t, through)
	adopt := func() (*schemav1.AdoptCatalogResponse, int64) {
		before := rounds.Load()
		answer, err := client.AdoptCatalog(t.Context(), connect.NewRequest(&schemav1.AdoptCatalogRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		return answer.Msg, rounds.Load() - before
	}
	add(0, 1)
	adopt() // what a new connection asks once
	_, one := adopt()
	add(1, 250)
	answer, many := adopt()
	if len(answer.Layers) != 250 || answer.Added != 249 || answer.Invalid != 0 {
		t.Fatalf("%d layers, %d added, %d invalid", len(answer.Layers), answer.Added, answer.Invalid)
	}
	for _, l := range answer.Layers {
		if l.Grid.GetRows() != 4 || len(l.Problems) > 0 {
			t.Fatalf("layer %v", l)
		}
	}
	// Two more for the surveys, and what saving new ones and a new connection need.
	if many > one+20 {
		t.Errorf("250 layers took %d round trips, and one layer %d", many, one)
	}
	t.Logf("one layer: %d round trips; 250: %d", one, many)
}
