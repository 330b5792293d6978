package boot

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/rasterloom/rasterloom/internal/wire"
)

func TestNoPasswordInTheLog(t *testing.T) {
	const canary = "c4n4ry"
	for _, asText := range []bool{false, true} {
		for _, text := range []string{
			"connect to postgres://user:" + canary + "@db:5432/x",
			"postgres://user:" + canary + "%40more@db",
			"host=db password=" + canary + " user=x",
			"host=db password='it''s " + canary + "'",
			`host=db PASSWORD = "` + canary + ` \" more"`,
			`{"password": "` + canary + `"}`,
			"Authorization: Bearer " + canary,
			"token=" + canary,
		} {
			var out bytes.Buffer
			log := newLogger(zapcore.AddSync(&out), zap.DebugLevel, asText, false)
			log = log.With(zap.String("dsn", text))
			log.Info(text, zap.Error(errors.New(text)), zap.String("x", text), zap.Any("fields", map[string]string{"a": text}),
				zap.Strings("list", []string{"a", text}))
			if out.Len() == 0 || strings.Contains(out.String(), canary) {
				t.Errorf("text %v: %q is logged as %s", asText, text, out.String())
			}
		}
	}
}

func TestRedactKeepsTheRest(t *testing.T) {
	for text, want := range map[string]string{
		"postgres://user:pw@db:5432/x?sslmode=require": "postgres://user:***@db:5432/x?sslmode=require",
		"host=db password=pw user=me":                  "host=db password=*** user=me",
		"grpc://127.0.0.1:7401":                        "grpc://127.0.0.1:7401",
		"password authentication failed for user me":   "password authentication failed for user me",
	} {
		if got := redact(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// The audit log has its lines whatever level is asked for; nothing else slips by.
func TestTheAuditLogIsAlwaysWritten(t *testing.T) {
	for level, want := range map[zapcore.Level]string{zap.InfoLevel: "call audit warning", zap.WarnLevel: "audit warning", zap.ErrorLevel: "audit"} {
		var out bytes.Buffer
		log := newLogger(zapcore.AddSync(&out), level, false, false)
		log.Debug("detail")
		log.Info("call")
		log.Named(wire.AuditLog).Info("audit", zap.String("request", "password=pw"))
		log.Warn("warning")
		var got []string
		for line := range strings.Lines(out.String()) {
			var said struct{ Msg, Request string }
			if err := json.Unmarshal([]byte(line), &said); err != nil {
				t.Fatal(err)
			}
			got = append(got, said.Msg)
			if strings.Contains(said.Request, "pw") {
				t.Errorf("%s", line)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("level %v: %v, want %s", level, got, want)
		}
	}
}
