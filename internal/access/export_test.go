package access

import "time"

// SetWait shortens how long a call waits for others of its principal.
func (g *Guard) SetWait(d time.Duration) { g.quotas.wait = d }

// TryAgain lets an issuer be asked at once.
func TryAgain(o *OIDC) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tried = time.Time{}
}
