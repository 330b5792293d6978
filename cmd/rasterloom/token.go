package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/rasterloom/rasterloom/internal/access"
)

type tokenCommand struct {
	New newTokenCommand `cmd:"" help:"Make a token for somebody, and the line by which servers know it."`
}

type newTokenCommand struct {
	Principal string    `arg:"" help:"Whose it is: the name that logs and exports show."`
	Role      string    `help:"What it may do: ${enum}." enum:"reader,submitter,operator,service" required:""`
	File      string    `help:"File of tokens to add the line to; it is made if need be. Default: the line is printed." type:"path" placeholder:"FILE"`
	Expires   time.Time `help:"Last day (UTC) on which it is good, as 2027-06-30. Default: until its line is taken out." format:"2006-01-02" placeholder:"DAY"`
	Output    string    `short:"o" help:"Form of the answer: ${enum}." enum:"table,json" default:"table"`
}

// Help is what --help says besides.
func (newTokenCommand) Help() string {
	return `Servers keep a hash of the token, from which nobody can make the token again: it is shown this once.`
}

// Run makes a token. Only the token goes to standard output, where it can be
// sent into a file: nobody can read it out of its line again.
func (c newTokenCommand) Run() error {
	role, err := access.ParseRole(c.Role)
	if err != nil {
		return err
	}
	if err := access.CheckName(c.Principal); err != nil {
		return err
	}
	token := access.NewToken()
	line := access.Line(access.Principal{Name: c.Principal, Role: role}, token, c.Expires)
	p := newPainter(os.Stderr)
	if c.File == "" && c.Output != "json" {
		p.line(dim, "This line belongs into the file that servers are given by --tokens:", "")
		fmt.Fprintln(os.Stderr, line)
	} else if c.File != "" {
		if err := appendLine(c.File, line); err != nil {
			return fmt.Errorf("--file: %w", err)
		}
	}
	if c.Output == "json" {
		return json.NewEncoder(standardOut).Encode(map[string]string{"principal": c.Principal, "role": c.Role, "token": token, "line": line})
	}
	_, err = fmt.Fprintln(standardOut, token)
	return err
}

// appendLine adds a line to a file of tokens, which has to make sense before and
// after.
func appendLine(path, line string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		line = "\n" + line
	}
	if _, err := access.ParseTokens(append(text, line...)); err != nil {
		return err
	}
	if _, err := file.WriteString(line + "\n"); err != nil {
		return err
	}
	return file.Close()
}
