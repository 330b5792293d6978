package pgstore

import (
	_ "embed"
	"strings"
	"text/template"

	"github.com/rasterloom/rasterloom/internal/pixelsql"
)

// Roles are the names in the SQL that sets up a database.
type Roles struct {
	Database string
	// Schema and Merger are the login roles of the two services.
	Schema, Merger string
	// Schemas are where pixel tables are already, and Owners the roles that they
	// belong to.
	Schemas, Owners []string
}

//go:embed roles.sql
var rolesSQL string

var rolesTemplate = template.Must(template.New("roles.sql").Funcs(template.FuncMap{"literal": text}).Parse(rolesSQL))

// SQL gives the text by which an administrator makes the roles. Errors: Invalid
// for a name that cannot be one.
func (r Roles) SQL() (string, error) {
	var quoted struct {
		Database, Schema, Merger string
		Schemas, Owners          []string
	}
	for _, n := range []struct {
		field, from string
		to          *string
	}{{"database", r.Database, &quoted.Database}, {"schema_role", r.Schema, &quoted.Schema}, {"merger_role", r.Merger, &quoted.Merger}} {
		var err error
		if *n.to, err = pixelsql.Quote(n.field, n.from); err != nil {
			return "", err
		}
	}
	for _, n := range []struct {
		field string
		from  []string
		to    *[]string
	}{{"schemas", r.Schemas, &quoted.Schemas}, {"owners", r.Owners, &quoted.Owners}} {
		for _, name := range n.from {
			q, err := pixelsql.Quote(n.field, name)
			if err != nil {
				return "", err
			}
			*n.to = append(*n.to, q)
		}
	}
	var out strings.Builder
	err := rolesTemplate.Execute(&out, quoted)
	return out.String(), err
}
