package crash_test

import (
	"context"
	"syscall"
	"time"
)

// death is a way to die.
type death string

const (
	kill       death = "SIGKILL of the worker"
	terminate  death = "pg_terminate_backend"
	postmaster death = "SIGKILL of PostgreSQL"
	cut        death = "socket cut after COMMIT was sent"
)

var deaths = []death{kill, terminate, postmaster, cut}

// die kills, looks whether everything holds just after, and lets the living go on.
func (s *scene) die() {
	switch s.plan.death {
	case kill:
		s.killWorker()
	case terminate:
		s.killConnections()
	case postmaster:
		s.killServer()
	case cut:
		s.wire.cutNext(func(backend uint32) { s.look("after a cut", s.gone(backend)) }) // at the next COMMIT
	}
}

func (s *scene) killWorker() {
	s.inspecting.Lock()
	defer s.inspecting.Unlock()
	s.stop()
	s.plan.count.died(kill)
	s.died.Add(1)
	s.look("just after the death of the worker", func() bool {
		// PostgreSQL rolls back what the dead left open once it notices.
		return s.count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'rasterloom schema' AND state <> 'idle'") == 0
	})
}

func (s *scene) killConnections() {
	s.inspecting.Lock()
	defer s.inspecting.Unlock()
	// Frozen meanwhile, so that it does not go on before we have looked.
	s.signal(syscall.SIGSTOP)
	defer s.signal(syscall.SIGCONT)
	s.count("SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'rasterloom schema'")
	s.plan.count.died(terminate)
	s.died.Add(1)
	s.look("just after the end of the connections", nil)
}

func (s *scene) killServer() {
	s.inspecting.Lock()
	defer s.inspecting.Unlock()
	s.signal(syscall.SIGSTOP)
	defer s.signal(syscall.SIGCONT)
	s.down.Store(true) // from here on writers are excused
	s.server.Kill(s.t)
	s.recover()
	s.plan.count.died(postmaster)
	s.died.Add(1)
	s.look("just after the recovery", nil)
}

func (s *scene) recover() {
	s.gate.Lock()
	defer s.gate.Unlock()
	s.server.Start(s.t)
	s.pool.Reset()
	s.down.Store(false)
	s.settle()
}

// look checks everything while nobody writes, once the dead are gone.
func (s *scene) look(when string, gone func() bool) {
	s.gate.Lock()
	defer s.gate.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for gone != nil && !gone() {
		if ctx.Err() != nil {
			s.t.Errorf("%s: what died still works in the database", when)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.contentLocked(when)
	s.invariants(ctx)
}

// gone says whether a backend has ended.
func (s *scene) gone(backend uint32) func() bool {
	return func() bool {
		return s.count("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", int64(backend)) == 0
	}
}
