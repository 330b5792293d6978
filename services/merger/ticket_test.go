package merger

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/rasterloom/rasterloom/internal/boot"
)

func TestTicketKeys(t *testing.T) {
	long, other := strings.Repeat("k", minTicketKey), strings.Repeat("o", 64)
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte(other+"\n"+long+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cfg  Config
		want []string
		err  string
	}{
		"none":         {Config{}, nil, ""},
		"one":          {Config{TicketKey: boot.Secret(long)}, []string{long}, ""},
		"two":          {Config{TicketKey: boot.Secret(other + " " + long)}, []string{other, long}, ""},
		"a file":       {Config{TicketKeyFile: file}, []string{other, long}, ""},
		"too short":    {Config{TicketKey: boot.Secret(long + " canary")}, nil, "secret 2 that signs tickets has 6 characters"},
		"blank":        {Config{TicketKey: " "}, nil, "no secret"},
		"no such file": {Config{TicketKeyFile: file + "x"}, nil, "--ticket-key-file"},
	} {
		keys, err := ticketKeys(c.cfg, zap.NewNop())
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var got []string
		if keys != nil {
			got = keys()
		}
		if err != nil || strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("%s: %d keys, %v", name, len(got), err)
		}
	}
}
