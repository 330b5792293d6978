// Package access says who calls, and what they may: principals and roles, the
// one table of methods, tokens at rest, OIDC, and each principal's share of the
// process. It is asked by the edges of every protocol (internal/wire), so that
// Connect, gRPC and Arrow Flight cannot differ.
package access

import (
	"context"
	"fmt"
	"strings"
)

// Role is what a principal may do. Reader, Submitter and Operator include one
// another in that order.
type Role uint8

// The roles.
const (
	// Nobody may only call what is open to all, such as health checks.
	Nobody Role = iota
	// Service is a service of the suite: it reads, on behalf of others.
	Service
	// Reader reads layers, plans, tables and reports.
	Reader
	// Submitter also puts work in: registers, ingests, exports, migrates up to
	// the point where readers would notice.
	Submitter
	// Operator also does what others notice or what cannot be undone.
	Operator
)

var roleNames = [...]string{"nobody", "service", "reader", "submitter", "operator"}

// String names the role as in a file of tokens.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// ParseRole reads the name of a role that can be given to somebody.
func ParseRole(name string) (Role, error) {
	for r := Service; r <= Operator; r++ {
		if roleNames[r] == name {
			return r, nil
		}
	}
	return Nobody, fmt.Errorf("there is no role %q: the roles are %s", name, strings.Join(roleNames[1:], ", "))
}

// may reports whether the role is enough for what needs another.
func (r Role) may(needed Role) bool {
	if r == Service {
		return needed <= Reader
	}
	return r >= needed
}

// Principal is who calls. The zero value is nobody.
type Principal struct {
	// Name is what logs, tickets and exports know the caller by.
	Name string
	Role Role
}

type principalKey struct{}

// With puts the caller into a context.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From gives the caller that an edge put into the context; the zero value
// outside of a call.
func From(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}
