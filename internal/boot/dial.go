package boot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rasterloom/rasterloom/internal/access"
)

// DialFlight makes the connection by which somebody reads from a Flight server at
// grpc://HOST:PORT, or grpc+tls://HOST:PORT, with credentials. Nothing is sent
// before the first call. Errors: another address, files that cannot be read, and
// *CredentialsError for a token that could be overheard.
func DialFlight(c ClientConfig, uri string) (*grpc.ClientConn, error) {
	at, err := url.Parse(uri)
	if err != nil || at.Port() == "" || at.Scheme != "grpc" && at.Scheme != "grpc+tcp" && at.Scheme != "grpc+tls" {
		return nil, fmt.Errorf("%q is not the address of a Flight server, such as grpc://127.0.0.1:7401 or grpc+tls://HOST:7401", uri)
	}
	encrypted := at.Scheme == "grpc+tls"
	transport := insecure.NewCredentials()
	if encrypted {
		if (c.Cert == "") != (c.Key == "") {
			return nil, errors.New("--client-cert and --client-key come together")
		}
		var certificate *access.File[*tls.Certificate]
		if c.Cert != "" {
			if certificate, err = openCertificate(c.Cert, c.Key); err != nil {
				return nil, fmt.Errorf("--client-cert: %w", err)
			}
		}
		config, err := clientTLS(c.CA, certificate)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		transport = credentials.NewTLS(config)
	}
	// A batch has as many bytes as its server gives it.
	const anySize = 1<<31 - 1
	options := []grpc.DialOption{grpc.WithTransportCredentials(transport), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(anySize)), grpc.WithNoProxy()}
	token := func() string { return string(c.Token) }
	if c.Token == "" && c.TokenFile != "" {
		file, err := openToken(c.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		token = file.Get
	}
	if c.Token != "" || c.TokenFile != "" {
		if !encrypted && !c.Insecure && !isLoopback(at.Hostname()) {
			return nil, &CredentialsError{fmt.Sprintf("the token is not sent to %s in clear text: encrypt, or say --insecure where the network is private", at.Host)}
		}
		options = append(options, grpc.WithPerRPCCredentials(callToken(token)))
	}
	return grpc.NewClient("dns:///"+at.Host, options...)
}

// callToken shows a token with every call. DialFlight has looked that nobody can
// overhear it.
type callToken func() string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t callToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + t()}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (callToken) RequireTransportSecurity() bool { return false }
