package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
)

var (
	bold   = text.Colors{text.Bold}
	dim    = text.Colors{text.Faint}
	red    = text.Colors{text.FgRed, text.Bold}
	yellow = text.Colors{text.FgYellow}
	green  = text.Colors{text.FgGreen}
	cyan   = text.Colors{text.FgCyan}
)

// painter prints for people: colours and wrapping on a terminal only.
type painter struct {
	io.Writer
	colours bool
	width   int // of the terminal; 0 where there is none
}

// standardOut remembers whether an answer could be written: a full disk behind
// it must not look like success.
var standardOut = &watched{File: os.Stdout}

type watched struct {
	*os.File
	err error
}

// Write implements io.Writer.
func (w *watched) Write(b []byte) (int, error) {
	n, err := w.File.Write(b)
	if w.err == nil {
		w.err = err
	}
	return n, err
}

func newPainter(out *os.File) painter {
	p := painter{Writer: out}
	if out == os.Stdout {
		p.Writer = standardOut
	}
	if fd := int(out.Fd()); term.IsTerminal(fd) {
		p.colours = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		if width, _, err := term.GetSize(fd); err == nil {
			p.width = width
		}
	}
	return p
}

func (p painter) paint(colours text.Colors, s string) string {
	if !p.colours {
		return s
	}
	// Not Sprint: it looks at the environment and not at this output.
	return colours.EscapeSeq() + s + text.EscapeReset
}

// line prints a painted part and a plain rest.
func (p painter) line(colours text.Colors, painted, rest string) {
	fmt.Fprintln(p, p.paint(colours, painted)+rest)
}

// prose prints a sentence, wrapped and indented on a terminal.
func (p painter) prose(indent, s string) {
	if p.width > len(indent)+20 {
		s = text.WrapSoft(s, p.width-len(indent))
	}
	for line := range strings.SplitSeq(s, "\n") {
		fmt.Fprintln(p, indent+strings.TrimRight(line, " "))
	}
}

// table prints rows under a header. Columns whose header ends in "|" are
// numbers and go to the right; the last column takes what width is left.
func (p painter) table(header []string, rows [][]string) {
	t := table.NewWriter()
	style := table.StyleLight
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	configs := make([]table.ColumnConfig, len(header))
	taken := 0
	head := make(table.Row, len(header))
	for i, name := range header {
		name, number := strings.CutSuffix(name, "|")
		configs[i] = table.ColumnConfig{Number: i + 1}
		if number {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
		width := text.StringWidthWithoutEscSequences(name)
		for _, row := range rows {
			width = max(width, text.StringWidthWithoutEscSequences(row[i]))
		}
		if last := i == len(header)-1; last && p.width > taken+20 {
			configs[i].WidthMax, configs[i].WidthMaxEnforcer = p.width-taken-1, text.WrapSoft
		}
		taken += width + 2
		head[i] = p.paint(dim, name)
	}
	t.SetColumnConfigs(configs)
	t.AppendHeader(head)
	for _, row := range rows {
		cells := make(table.Row, len(row))
		for i, cell := range row {
			cells[i] = cell
		}
		t.AppendRow(cells)
	}
	for line := range strings.SplitSeq(t.Render(), "\n") {
		fmt.Fprintln(p, strings.TrimRight(line, " "))
	}
}

// printJSON prints a message of the contract with every field, so that scripts
// find what they look for.
func printJSON(out io.Writer, m proto.Message) error {
	b, err := protojson.MarshalOptions{Multiline: true, Indent: "  ", EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, string(b))
	return err
}

// enumName prints VERDICT_SHIFT as SHIFT.
func enumName(e fmt.Stringer, prefix string) string {
	return strings.TrimPrefix(e.String(), prefix)
}

func number(v float64) string {
	if v == 0 { // also -0
		return "0"
	}
	return strconv.FormatFloat(v, 'g', 5, 64)
}

// pair prints a vector as "x, y".
func pair(v *gridv1.Vector) string {
	if v.GetX() == 0 && v.GetY() == 0 {
		return "0"
	}
	return number(v.GetX()) + ", " + number(v.GetY())
}

// largest prints the longer component of a vector.
func largest(v *gridv1.Vector) string {
	return number(math.Max(math.Abs(v.GetX()), math.Abs(v.GetY())))
}

// grouped prints 1234567 as 1,234,567.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size prints a number of bytes.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, u := float64(n), 0
	for v >= 1024 && u < len(units)-1 {
		v, u = v/1024, u+1
	}
	return strconv.FormatFloat(v, 'f', min(u, 1), 64) + " " + units[u]
}

// crsName prints a CRS in a few words: an authority code as it is, of a WKT or
// PROJJSON text the name in it.
func crsName(crs string) string {
	const most = 28
	if len(crs) > most {
		if i := strings.Index(crs, `"name"`); i >= 0 {
			crs = crs[i+len(`"name"`):]
		}
		if parts := strings.SplitN(crs, `"`, 3); len(parts) == 3 {
			crs = parts[1]
		}
	}
	if crs == "" {
		return "none"
	}
	return text.Snip(crs, most, "…")
}

// plural prints "1 layer", "2 layers".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return grouped(int64(n)) + " " + noun + "s"
}

// quiet is how long a command may take before it says what it waits for.
const quiet = 3 * time.Second

// waiting says what is waited for until done is called: on a terminal one line with
// the time so far, else a line now and then.
func (p painter) waiting(what string) (done func()) {
	began, over := time.Now(), make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		again, shown := quiet, false
		for {
			select {
			case <-over:
				if shown && p.width > 0 {
					fmt.Fprint(p, "\r\x1b[K")
				}
				return
			case <-time.After(again):
			}
			line := fmt.Sprintf("waiting for %v: %s", time.Since(began).Round(time.Second), what)
			if shown = true; p.width > 0 {
				fmt.Fprint(p, "\r\x1b[K"+text.Trim(line, p.width-1))
				again = time.Second
				continue
			}
			fmt.Fprintln(p, line)
			again = min(4*again, 5*time.Minute)
		}
	})
	return func() { close(over); telling.Wait() }
}
