package pgstore

import (
	"crypto/tls"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// encrypt makes sslmode=verify-full of what was not told: libpq's default,
// prefer, takes whatever answers, and falls back to clear text when it is told
// that there is no encryption. Whoever wants less off this machine has to say so:
// sslmode=disable, require or verify-ca.
func encrypt(c *pgconn.Config) {
	if local(c.Host) || !takesClearText(c) {
		return
	}
	seen := c.TLSConfig
	for _, f := range c.Fallbacks {
		if seen == nil {
			seen = f.TLSConfig
		}
	}
	c.TLSConfig = verified(seen, c.Host)
	// One attempt for each host; prefer and allow have two.
	fallbacks := c.Fallbacks[:0]
	for _, f := range c.Fallbacks {
		known := f.Host == c.Host && f.Port == c.Port
		for _, other := range fallbacks {
			known = known || f.Host == other.Host && f.Port == other.Port
		}
		if !known {
			f.TLSConfig = verified(seen, f.Host)
			fallbacks = append(fallbacks, f)
		}
	}
	c.Fallbacks = fallbacks
}

// takesClearText tells prefer and allow by their two attempts on one host, one of
// them in clear text.
func takesClearText(c *pgconn.Config) bool {
	for _, f := range c.Fallbacks {
		if f.Host == c.Host && f.Port == c.Port && (f.TLSConfig == nil) != (c.TLSConfig == nil) {
			return true
		}
	}
	return false
}

// verified keeps authorities and certificates, and checks the chain and the name.
func verified(seen *tls.Config, host string) *tls.Config {
	config := seen.Clone()
	if local(host) {
		return nil
	}
	config.InsecureSkipVerify, config.VerifyPeerCertificate, config.VerifyConnection = false, nil, nil
	config.ServerName = host
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	return config
}

// local reports whether a host is on this machine: a directory of sockets, or a
// loopback address.
func local(host string) bool {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
