package merger

import (
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/access"
)

// minTicketKey is the least length of a secret that signs tickets: whoever has a
// ticket can try secrets on it for as long as he likes.
const minTicketKey = 16

// ticketKeys gives the secrets that sign tickets, the newest first; nil where
// there are none.
func ticketKeys(cfg Config, log *zap.Logger) (func() []string, error) {
	switch {
	case cfg.TicketKeyFile != "":
		file, err := access.Open(cfg.TicketKeyFile, func(text []byte) ([]string, error) { return parseTicketKeys(string(text)) })
		if err != nil {
			return nil, fmt.Errorf("--ticket-key-file: %w", err)
		}
		file.Failed = func(err error) {
			log.Error("the file of ticket keys cannot be read; those before hold", zap.Error(err))
		}
		return file.Get, nil
	case cfg.TicketKey != "":
		keys, err := parseTicketKeys(string(cfg.TicketKey))
		return func() []string { return keys }, err
	default:
		return nil, nil
	}
}

func parseTicketKeys(text string) ([]string, error) {
	keys := strings.Fields(text)
	if len(keys) == 0 {
		return nil, fault.New(fault.Invalid, fault.InvalidArgument, "there is no secret to sign tickets by").With("field", "ticket_key")
	}
	for i, key := range keys {
		if len(key) < minTicketKey {
			return nil, fault.New(fault.Invalid, fault.InvalidArgument, "secret %d that signs tickets has %d characters, and needs at least %d: `openssl rand -hex 32` makes one",
				i+1, len(key), minTicketKey).With("field", "ticket_key").With("limit", minTicketKey)
		}
	}
	return keys, nil
}
