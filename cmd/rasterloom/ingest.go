package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
)

// ingestCommand sends a raster. Reading rasters takes GDAL, which our Python client
// brings and this program does not: it runs the client.
type ingestCommand struct {
	File       string    `arg:"" help:"Whatever GDAL reads: GeoTIFF, COG, netCDF, Zarr …"`
	Name       string    `help:"Name of the layer; several bands are NAME_BAND." required:""`
	Band       []string  `help:"Band to take, by number or name; again for more. Default: all." sep:"none"`
	Nodata     *float64  `help:"Value that means \"no data\". Default: as the file says."`
	CRS        string    `help:"Coordinate reference system. Default: as the file says."`
	Bounds     []float64 `help:"Outer edges, of a file that does not say them: MIN_X,MIN_Y,MAX_X,MAX_Y."`
	Unscale    *bool     `help:"Of packed values, store what they mean, or, with --no-unscale, what is in the file." negatable:""`
	Replace    bool      `help:"Replace layers of these names that were ingested."`
	SameGridAs string    `help:"A layer whose grid the raster must have." placeholder:"LAYER"`
	URL        string    `help:"Where the suite answers." default:"${url}" env:"RASTERLOOM_URL" placeholder:"URL"`
	Python     string    `help:"Python that has our client, with its extra: pip install './python[ingest]' in a checkout." default:"python3" env:"RASTERLOOM_PYTHON" placeholder:"PROGRAM"`
}

// Run runs the client, whose status becomes ours.
func (c ingestCommand) Run(ctx context.Context) error {
	python, err := exec.LookPath(c.Python)
	if err != nil {
		return fmt.Errorf("there is no %s: reading rasters needs Python with our client, pip install './python[ingest]' in a checkout, and --python names one", c.Python)
	}
	if exec.CommandContext(ctx, python, "-c", "import rasterloom, rasterio").Run() != nil {
		return fmt.Errorf("%s has not our client, or not rasterio, which reading rasters needs: %s -m pip install './python[ingest]' in a checkout, or --python names another", python, python)
	}
	client := exec.CommandContext(ctx, python, append([]string{"-m", "rasterloom", "ingest"}, c.arguments()...)...)
	client.Stdin, client.Stdout, client.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Ctrl-C reaches the client by itself; it should end in order.
	client.Cancel = func() error { return client.Process.Signal(os.Interrupt) }
	err = client.Run()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		return clientError(ended.ExitCode())
	}
	return err
}

func (c ingestCommand) arguments() []string {
	args := []string{"--name=" + c.Name, "--url=" + c.URL}
	for _, band := range c.Band {
		args = append(args, "--band="+band)
	}
	if c.Nodata != nil {
		args = append(args, "--nodata="+strconv.FormatFloat(*c.Nodata, 'g', -1, 64))
	}
	if c.CRS != "" {
		args = append(args, "--crs="+c.CRS)
	}
	if c.Unscale != nil {
		args = append(args, map[bool]string{true: "--unscale", false: "--no-unscale"}[*c.Unscale])
	}
	if c.Replace {
		args = append(args, "--replace")
	}
	if c.SameGridAs != "" {
		args = append(args, "--same-grid-as="+c.SameGridAs)
	}
	if len(c.Bounds) > 0 {
		args = append(args, "--bounds")
		for _, edge := range c.Bounds {
			args = append(args, strconv.FormatFloat(edge, 'g', -1, 64))
		}
	}
	return append(args, "--", c.File)
}

// clientError is the status of a client that has said itself what was wrong.
type clientError int

// Error implements error.
func (e clientError) Error() string { return fmt.Sprintf("the client ended with status %d", int(e)) }
