package boot

import "github.com/rasterloom/rasterloom/internal/wire"

// Bound gives a process that does not serve yet other bounds on connections.
func (p *Process) Bound(c wire.Connections) { p.connections = c }

// DebugAddress is where a process shows its profiles.
func (p *Process) DebugAddress() string { return p.debug.Addr().String() }
