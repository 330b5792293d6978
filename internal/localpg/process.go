package localpg

import (
	_ "embed"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/rasterloom/rasterloom/fault"
)

//go:embed keeper.sh
var keeperScript string

// process is the server with its keeper.
type process struct {
	// done is closed when both have ended and their files are gone.
	done chan struct{}
	// stop closes the pipe, which tells the keeper to end the server.
	stop func()
	// log stays open, so that it can be read when a throwaway server has taken
	// its directory along.
	log *os.File
}

// logTail gives the end of the log.
func (p *process) logTail() string {
	const tailBytes = 4096
	info, err := p.log.Stat()
	if err != nil {
		return ""
	}
	from := max(0, info.Size()-tailBytes)
	text, _ := io.ReadAll(io.NewSectionReader(p.log, from, tailBytes))
	return lastLines(string(text), 5)
}

// run starts the server under its keeper. Holding the lock of the home, it
// knows that a postmaster.pid found is of a server that is gone.
func (h *home) run(install Installation, settings map[string]string) (*process, error) {
	if err := os.RemoveAll(filepath.Join(h.cluster(), "postmaster.pid")); err != nil {
		return nil, h.unusable(err)
	}
	log, err := h.newLog()
	if err != nil {
		return nil, h.unusable(err)
	}
	reading, writing, err := os.Pipe()
	if err != nil {
		log.Close()
		return nil, h.unusable(err)
	}
	defer reading.Close()

	// Fast shutdown: sessions are cut, data written. A throwaway server has
	// nothing to write.
	signal := "INT"
	if h.throwaway {
		signal = "QUIT"
	}
	temporary := strings.Join(h.temporary(), "\n")
	if temporary != "" {
		temporary += "\n"
	}
	args := []string{"-c", keeperScript, "keeper.sh", signal, temporary, filepath.Join(install.BinDir, "postgres"), "-D", h.cluster()}
	for _, s := range h.settings(settings) {
		args = append(args, "-c", s)
	}
	cmd := exec.Command("/bin/sh", args...) //nolint:noctx // it lives until Stop, not as long as the call that started it
	cmd.Stdin, cmd.Stdout, cmd.Stderr = reading, log, log
	cmd.ExtraFiles = []*os.File{h.lock} // descriptor 3
	cmd.Dir, cmd.Env, cmd.SysProcAttr = h.dir, environment(h.dir), h.account.attributes()
	if h.throwaway {
		cmd.Dir = "/" // its own will be removed
	}
	if err := cmd.Start(); err != nil {
		writing.Close()
		log.Close()
		return nil, fault.New(fault.Unavailable, fault.DatabaseUnavailable, "PostgreSQL %s cannot be started", install.Version).Because(err)
	}
	p := &process{log: log, done: make(chan struct{}), stop: sync.OnceFunc(func() { writing.Close() })}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // how it ended is in its log
		p.stop()
		// We own nothing any more; after a crash of the server some process of
		// it may still hold the lock for a moment.
		_ = h.lock.Truncate(0)
		h.lock.Close()
	}()
	return p, nil
}

// settings gives name=value, ours before the caller's, which win.
func (h *home) settings(own map[string]string) []string {
	all := map[string]string{
		"listen_addresses":        "",
		"unix_socket_directories": h.socketDir,
		"unix_socket_permissions": "0700",
		"logging_collector":       "off",
		"log_destination":         "stderr",
	}
	if h.throwaway {
		maps.Copy(all, map[string]string{
			"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
			// Statistics change only when a test says so, and no worker sits
			// in a template that is being cloned.
			"autovacuum":      "off",
			"max_connections": "200",
			"shared_buffers":  "128MB", // there may be several
		})
	}
	maps.Copy(all, own)
	list := make([]string, 0, len(all))
	for name, value := range all {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// newLog begins a log and keeps the one before.
func (h *home) newLog() (*os.File, error) {
	if err := os.Rename(h.logPath(), h.logPath()+".old"); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return os.OpenFile(h.logPath(), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
}
