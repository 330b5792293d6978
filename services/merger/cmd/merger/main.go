// Command merger runs the merger service on its own.
package main

import (
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/services/merger"
)

func main() {
	boot.Main(boot.Program[merger.Config]{
		Name:         "merger",
		About:        "Weaves raster layers into one aligned table and streams it by Arrow Flight.",
		Listen:       "127.0.0.1:7430",
		FlightListen: "127.0.0.1:7431",
		New:          merger.New,
	})
}
