package pgstore

import (
	"crypto/tls"
	"net/netip"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// encrypt makes sslmode=verify-full of what was not told: libpq's default,
// prefer, takes whatever answers, and falls back to clear text when it is told
// that there is no encryption. Whoever wants less off this machine has to say so:
// sslmode=disable, require or verify-ca.
// Each host of a list is judged for itself.
func encrypt(c *pgconn.Config) {
	attempts := append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}, c.Fallbacks...)
	var kept []*pgconn.FallbackConfig
	for i, a := range attempts {
		same := func(b *pgconn.FallbackConfig) bool { return b.Host == a.Host && b.Port == a.Port }
		seen, wavers := takesClearText(attempts, same)
		if local(a.Host) || !wavers {
			kept = append(kept, a)
			continue
		}
		// One attempt for each host; prefer and allow have two.
		if !slices.ContainsFunc(attempts[:i], same) {
			proved := *a
			proved.TLSConfig = verified(seen, a.Host)
			kept = append(kept, &proved)
		}
	}
	c.TLSConfig, c.Fallbacks = kept[0].TLSConfig, kept[1:]
}

// takesClearText tells prefer and allow by their two attempts on one host, one of
// them in clear text, and gives what the other one knows of TLS.
func takesClearText(attempts []*pgconn.FallbackConfig, same func(*pgconn.FallbackConfig) bool) (seen *tls.Config, wavers bool) {
	inClear := false
	for _, a := range attempts {
		switch {
		case !same(a):
		case a.TLSConfig == nil:
			inClear = true
		case seen == nil:
			seen = a.TLSConfig
		}
	}
	return seen, inClear && seen != nil
}

// verified keeps authorities and certificates, and checks the chain and the name.
func verified(seen *tls.Config, host string) *tls.Config {
	config := seen.Clone()
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
