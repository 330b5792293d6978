package crash_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// wire carries the connections between the service and its database, and can cut
// one just after a COMMIT was sent: the server may have got it, and the service
// will never hear.
type wire struct {
	scene    *scene
	listener net.Listener
	server   *pgconn.Config
	carrying sync.WaitGroup

	mu   sync.Mutex
	then func(backend uint32) // nil: do not cut
}

// layWire puts a wire before the database and gives the address to use.
func (s *scene) layWire() string {
	s.t.Helper()
	config, err := pgconn.ParseConfig(s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(s.dir, ".s.PGSQL.5432"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.wire = &wire{scene: s, listener: listener, server: config}
	s.wire.carrying.Go(s.wire.accept)
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Path: "/" + config.Database,
		RawQuery: url.Values{"host": {s.dir}}.Encode(),
	}
	return u.String()
}

func (w *wire) close() {
	w.listener.Close()
	w.carrying.Wait()
}

// cutNext cuts the next connection on which a COMMIT is sent, then calls f.
func (w *wire) cutNext(f func(backend uint32)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.then = f
}

func (w *wire) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		network, address := pgconn.NetworkAddress(w.server.Host, w.server.Port)
		server, err := net.Dial(network, address)
		if err != nil {
			client.Close()
			continue
		}
		w.carrying.Go(func() { (&line{wire: w, client: client, server: server}).carry() })
	}
}

// line is one connection.
type line struct {
	wire           *wire
	client, server net.Conn

	mu      sync.Mutex
	backend uint32
	mute    bool // nothing reaches the client any more
}

func (l *line) carry() {
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		_ = l.answers()
		l.client.Close()
	}()
	_ = l.questions()
	l.client.Close()
	l.server.Close()
	<-answers
}

// frame reads a message; the first of a client has no type.
func frame(r *bufio.Reader, typed bool) (kind byte, whole []byte, err error) {
	head := 4
	if typed {
		head = 5
	}
	start, err := r.Peek(head)
	if err != nil {
		return 0, nil, err
	}
	size := int(binary.BigEndian.Uint32(start[head-4:]))
	if size < 4 || size > 1<<30 {
		return 0, nil, errors.New("not a message")
	}
	if typed {
		kind = start[0]
	}
	whole = make([]byte, head-4+size)
	_, err = io.ReadFull(r, whole)
	return kind, whole, err
}

// answers carries what the server says.
func (l *line) answers() error {
	r := bufio.NewReader(l.server)
	for {
		kind, message, err := frame(r, true)
		if err != nil {
			return err
		}
		l.mu.Lock()
		if kind == 'K' { // BackendKeyData: pid, secret
			l.backend = binary.BigEndian.Uint32(message[5:])
		}
		mute := l.mute
		l.mu.Unlock()
		if mute {
			continue
		}
		if _, err := l.client.Write(message); err != nil {
			return err
		}
	}
}

// questions carries what the client says, and cuts.
func (l *line) questions() error {
	r := bufio.NewReader(l.client)
	for typed := false; ; typed = true {
		kind, message, err := frame(r, typed)
		if err != nil {
			return err
		}
		if isCommit(kind, message) {
			if then := l.wire.take(); then != nil {
				return l.cut(message, then)
			}
		}
		if _, err := l.server.Write(message); err != nil {
			return err
		}
	}
}

// take gives what to do after a cut, once.
func (w *wire) take() func(uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	then := w.then
	w.then = nil
	return then
}

// isCommit says whether a message asks for the end of a transaction of its own. What
// is one statement alone commits without one, and is not cut.
func isCommit(kind byte, message []byte) bool {
	return kind == 'Q' && strings.EqualFold(string(bytes.TrimRight(message[5:], "\x00")), "commit")
}

// cut sends the last message and then lets nothing through. The service is
// frozen until we have looked.
func (l *line) cut(message []byte, then func(uint32)) error {
	s := l.wire.scene
	s.inspecting.Lock()
	defer s.inspecting.Unlock()
	s.signal(syscall.SIGSTOP)
	defer s.signal(syscall.SIGCONT)
	l.mu.Lock()
	l.mute = true
	backend := l.backend
	l.mu.Unlock()
	_, err := l.server.Write(message)
	l.server.Close()
	l.client.Close()
	s.plan.count.died(cut)
	s.died.Add(1)
	then(backend)
	return errors.Join(err, context.Canceled)
}
