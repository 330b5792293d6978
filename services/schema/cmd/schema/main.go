// Command schema runs the schema service on its own.
package main

import (
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/services/schema"
)

func main() {
	boot.Main(boot.Program[schema.Config]{
		Name:         "schema",
		About:        "What is stored: the catalog of raster layers in PostgreSQL and the formats of their tables. Takes rasters by Arrow Flight.",
		Listen:       "127.0.0.1:7420",
		FlightListen: "127.0.0.1:7421",
		New:          schema.New,
	})
}
