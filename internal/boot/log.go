package boot

import (
	"fmt"
	"os"
	"reflect"
	"regexp"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"github.com/rasterloom/rasterloom/internal/wire"
)

// NewLogger makes the logger of a process. It writes to out, and never a
// password: see redactCore.
func NewLogger(cfg LogConfig, out *os.File) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(cfg.Level)
	if err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	asText := cfg.Format == "text" || cfg.Format == "auto" && term.IsTerminal(int(out.Fd()))
	return newLogger(zapcore.Lock(out), level, asText, os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(out.Fd()))), nil
}

func newLogger(out zapcore.WriteSyncer, level zapcore.Level, asText, colours bool) *zap.Logger {
	encoding := zap.NewProductionEncoderConfig()
	encoding.TimeKey = "time"
	encoding.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	encoding.EncodeDuration = zapcore.SecondsDurationEncoder
	encoder := zapcore.NewJSONEncoder(encoding)
	if asText {
		encoding.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		encoding.EncodeDuration = zapcore.StringDurationEncoder
		encoding.EncodeLevel = zapcore.CapitalLevelEncoder
		if colours {
			encoding.EncodeLevel = zapcore.CapitalColorLevelEncoder
		}
		encoder = zapcore.NewConsoleEncoder(encoding)
	}
	return zap.New(redactCore{auditCore{zapcore.NewCore(encoder, out, zapcore.DebugLevel), level}})
}

// secrets are the places where a password travels in text: in a URL, and in
// the key=value form of a connection string, quoted or not.
var secrets = []struct {
	find *regexp.Regexp
	put  string
}{
	{regexp.MustCompile(`(://[^\s:/@]*):[^\s@]*@`), `$1:***@`},
	{regexp.MustCompile(`(?i)\b(password|passwd|pwd|secret|token|authorization)(["']?\s*[=:]\s*)('(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*"|(?:bearer\s+)?[^\s,;&'"]+)`), `$1$2***`},
}

func redact(text string) string {
	for _, s := range secrets {
		text = s.find.ReplaceAllString(text, s.put)
	}
	return text
}

// auditCore writes lines of the least level that is asked for, and those of the
// audit log whatever their level.
type auditCore struct {
	zapcore.Core
	least zapcore.Level
}

// Enabled implements zapcore.Core. An audit line is of level info; whether an
// entry is one shows in Check.
func (c auditCore) Enabled(level zapcore.Level) bool {
	return level >= min(c.least, zapcore.InfoLevel)
}

// With implements zapcore.Core.
func (c auditCore) With(fields []zapcore.Field) zapcore.Core {
	return auditCore{c.Core.With(fields), c.least}
}

// Check implements zapcore.Core.
func (c auditCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if entry.Level >= c.least || entry.LoggerName == wire.AuditLog {
		return checked.AddCore(entry, c)
	}
	return checked
}

// redactCore takes passwords out of everything that is logged as text. It is
// the last line of defence: a driver's error may quote what it was given.
type redactCore struct{ zapcore.Core }

// With implements zapcore.Core.
func (c redactCore) With(fields []zapcore.Field) zapcore.Core {
	return redactCore{c.Core.With(redactFields(fields))}
}

// Check implements zapcore.Core.
func (c redactCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Core.Check(entry, nil) != nil {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c redactCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	entry.Message, entry.Stack = redact(entry.Message), redact(entry.Stack)
	return c.Core.Write(entry, redactFields(fields))
}

func redactFields(fields []zapcore.Field) []zapcore.Field {
	out := make([]zapcore.Field, len(fields))
	for i, f := range fields {
		switch value := f.Interface.(type) {
		case error:
			f = zap.String(f.Key, redact(value.Error()))
		case fmt.Stringer:
			f = zap.String(f.Key, redact(value.String()))
		case map[string]string:
			clean := make(map[string]string, len(value))
			for k, v := range value {
				clean[k] = redact(v)
			}
			f = zap.Any(f.Key, clean)
		default:
			f.String = redact(f.String)
			// zap.Strings has a type of its own.
			if list := reflect.ValueOf(value); list.Kind() == reflect.Slice && list.Type().Elem().Kind() == reflect.String {
				clean := make([]string, list.Len())
				for i := range clean {
					clean[i] = redact(list.Index(i).String())
				}
				f = zap.Strings(f.Key, clean)
			}
		}
		out[i] = f
	}
	return out
}
