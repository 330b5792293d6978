package boot

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc/credentials"

	"github.com/rasterloom/rasterloom/internal/access"
)

// TLSConfig says how a process encrypts, and whom it believes. All files are
// PEM. Certificates are read again when their files change.
type TLSConfig struct {
	Cert     string `help:"Certificate of this process, with its chain. Callers are then served by TLS 1.3 only, and the services that it asks are shown it." type:"path" env:"CERT" placeholder:"FILE"`
	Key      string `help:"Private key of the certificate." type:"path" env:"KEY" placeholder:"FILE"`
	ClientCA string `help:"Authorities of client certificates, which then are as good as the token of their principal: see --tokens." name:"client-ca" type:"path" env:"CLIENT_CA" placeholder:"FILE"`
	PeerCA   string `help:"Authorities of the services that this one asks. Default: those of the system." name:"peer-ca" type:"path" env:"PEER_CA" placeholder:"FILE"`
}

func (c TLSConfig) validate() error {
	switch {
	case (c.Cert == "") != (c.Key == ""):
		return errors.New("--tls-cert and --tls-key come together")
	case c.ClientCA != "" && c.Cert == "":
		return errors.New("--tls-client-ca needs --tls-cert: client certificates are shown over TLS only")
	}
	return nil
}

// identity is the certificate of this process, and whose clients it believes;
// nil where nothing is encrypted.
type identity struct {
	certificate *access.File[*tls.Certificate]
	clients     *access.File[*x509.CertPool] // nil: of nobody
}

func (c TLSConfig) identity(failed func(error)) (*identity, error) {
	if c.Cert == "" {
		return nil, nil
	}
	certificate, err := openCertificate(c.Cert, c.Key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert: %w", err)
	}
	certificate.Failed = failed
	id := &identity{certificate: certificate}
	if c.ClientCA != "" {
		if id.clients, err = access.Open(c.ClientCA, parsePool); err != nil {
			return nil, fmt.Errorf("--tls-client-ca: %w", err)
		}
		id.clients.Failed = failed
	}
	return id, nil
}

func openCertificate(certFile, keyFile string) (*access.File[*tls.Certificate], error) {
	return access.Open(certFile, func(cert []byte) (*tls.Certificate, error) {
		key, err := os.ReadFile(keyFile)
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(cert, key)
		return &pair, err
	})
}

func parsePool(text []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("the file has no certificate in PEM")
	}
	return pool, nil
}

// server gives the settings of a listener that speaks these protocols. A client
// certificate is asked for where somebody could have one, and not demanded:
// health checks have none.
func (id *identity) server(protocols ...string) *tls.Config {
	base := &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id.certificate.Get(), nil },
	}
	if id.clients == nil {
		return base
	}
	base.ClientAuth = tls.VerifyClientCertIfGiven
	outer := base.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := base.Clone()
		now.ClientCAs = id.clients.Get()
		return now, nil
	}
	return outer
}

// flight gives what a Flight server encrypts by; nil where nothing is.
func (id *identity) flight() credentials.TransportCredentials {
	if id == nil {
		return nil
	}
	return credentials.NewTLS(id.server("h2"))
}

// client gives the settings for asking others: believing these authorities, the
// system's where there is no file, and showing a certificate if there is one.
func clientTLS(caFile string, certificate *access.File[*tls.Certificate]) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	if caFile != "" {
		text, err := os.ReadFile(caFile)
		if err != nil {
			return nil, err
		}
		if config.RootCAs, err = parsePool(text); err != nil {
			return nil, fmt.Errorf("%s: %w", caFile, err)
		}
	}
	if certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate.Get(), nil }
	}
	return config, nil
}

// pinned believes the one certificate of a file and no other: for a process
// that asks itself under whatever name.
func pinned(certFile string) (*tls.Config, error) {
	text, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	own, _ := pem.Decode(text)
	if own == nil {
		return nil, errors.New("the file has no certificate in PEM")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The certificate is compared byte for byte instead.
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection: func(s tls.ConnectionState) error {
			if !bytes.Equal(own.Bytes, s.PeerCertificates[0].Raw) {
				return errors.New("the process shows another certificate than the one of --tls-cert")
			}
			return nil
		},
	}, nil
}
