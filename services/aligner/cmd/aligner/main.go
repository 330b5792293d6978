// Command aligner runs the aligner service on its own.
package main

import (
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/services/aligner"
)

func main() {
	boot.Main(boot.Program[aligner.Config]{
		Name:   "aligner",
		About:  "How do the grids of raster layers relate: shifts, residuals, verdicts, from metadata alone.",
		Listen: "127.0.0.1:7410",
		New:    aligner.New,
	})
}
