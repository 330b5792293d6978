package main

import (
	"fmt"

	"github.com/rasterloom/rasterloom/services/schema"
)

type sqlCommand struct {
	Roles rolesCommand `cmd:"" help:"Print the SQL that makes the login roles of the services: the schema service writes, the merger can only read."`
}

type rolesCommand struct {
	Database   string   `help:"Database that holds the layers." default:"rasterloom"`
	SchemaRole string   `help:"Login role of the schema service." default:"rasterloom_schema"`
	MergerRole string   `help:"Login role of the merger." default:"rasterloom_merger"`
	Schemas    []string `help:"Schemas that have pixel tables." default:"public"`
	Owners     []string `help:"Roles that own pixel tables which are to be migrated." placeholder:"ROLE,..."`
}

// Run prints the SQL.
func (c rolesCommand) Run() error {
	text, err := schema.Roles{Database: c.Database, Schema: c.SchemaRole, Merger: c.MergerRole, Schemas: c.Schemas, Owners: c.Owners}.SQL()
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(standardOut, text)
	return err
}
