package crash_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// Ten replicas start at once on an empty database: processes, all of them waiting for
// their turn before the first one has it. All come up, nobody complains, and each
// version of our catalog is applied once.
func TestTenReplicasStartAtOnce(t *testing.T) {
	const replicas = 10
	binary := build(t)
	url := pgtest.URL(t)
	pool := pgtest.Connect(t, url)
	ctx := t.Context()
	if _, err := pool.Exec(ctx, "DROP SCHEMA rasterloom CASCADE"); err != nil {
		t.Fatal(err)
	}
	count := func(sql string) (n int) {
		t.Helper()
		if err := pool.QueryRow(ctx, sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	turn, err := pool.Acquire(ctx) // that of migration.Up
	if err != nil {
		t.Fatal(err)
	}
	defer turn.Release()
	const lock = "(x'7261737465726c6f'::bigint)"
	if _, err := turn.Exec(ctx, "SELECT pg_advisory_lock"+lock); err != nil {
		t.Fatal(err)
	}

	addresses := freeAddresses(t, replicas)
	logs := make([]bytes.Buffer, replicas)
	commands := make([]*exec.Cmd, replicas)
	for i := range commands {
		cmd := exec.CommandContext(ctx, binary, "serve", "--listen", addresses[i], "--flight-listen", "127.0.0.1:0")
		cmd.Env = append(os.Environ(), "DATABASE_URL="+url)
		cmd.Stdout, cmd.Stderr = &logs[i], &logs[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		commands[i] = cmd
	}
	waiting := "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'"
	for end := time.Now().Add(patience); count(waiting) < replicas; {
		if time.Now().After(end) {
			t.Fatalf("%d of %d replicas wait for their turn", count(waiting), replicas)
		}
	}
	if _, err := turn.Exec(ctx, "SELECT pg_advisory_unlock"+lock); err != nil {
		t.Fatal(err)
	}
	var coming sync.WaitGroup
	for _, address := range addresses {
		coming.Go(func() {
			if !serves(ctx, address) {
				t.Errorf("the replica at %s does not serve", address)
			}
		})
	}
	coming.Wait()
	for i, cmd := range commands {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("replica %d ended with %v", i, err)
		}
		if !strings.Contains(logs[i].String(), `"level":"info"`) {
			t.Errorf("replica %d logs nothing that this test can read: %s", i, logs[i].String())
		}
		for line := range strings.Lines(logs[i].String()) {
			if strings.Contains(line, `"level":"error"`) || strings.Contains(line, `"level":"warn"`) {
				t.Errorf("replica %d says %s", i, line)
			}
		}
	}
	twice := count("SELECT count(*) - count(DISTINCT version_id) FROM rasterloom.schema_version")
	files, err := os.ReadDir("../../internal/pgstore/migration/versions")
	if err != nil {
		t.Fatal(err)
	}
	// goose's own row is version 0.
	if applied := count("SELECT count(*) FROM rasterloom.schema_version WHERE version_id > 0"); applied != len(files) || twice != 0 {
		t.Errorf("%d versions were applied, %d of them more than once; there are %d", applied, twice, len(files))
	}
}

// freeAddresses gives addresses at which nobody listens.
func freeAddresses(t *testing.T, n int) (addresses []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}

// serves waits until a service says that it is well.
func serves(ctx context.Context, address string) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/grpc.health.v1.Health/Check", strings.NewReader("{}"))
		if err != nil {
			return false
		}
		request.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			continue
		}
		var said bytes.Buffer
		_, _ = said.ReadFrom(answer.Body)
		answer.Body.Close()
		if answer.StatusCode == http.StatusOK && strings.Contains(said.String(), "SERVING") && !strings.Contains(said.String(), "NOT_SERVING") {
			return true
		}
	}
	return false
}
