package main

import (
	"strings"

	"github.com/alecthomas/kong"
)

// examples are what --help shows of each command, and docs/cli.md. A test reads
// every one of them as a command line.
var examples = map[string][]string{
	"up": {
		"rasterloom up",
		"rasterloom up --database-url=postgres://me@db.example/rasters --listen=127.0.0.1:8400 --flight-listen=127.0.0.1:8401",
		"rasterloom up --config=rasterloom.yaml",
	},
	"demo": {"rasterloom demo", "rasterloom demo --stay", "rasterloom demo tables/"},
	"layers adopt": {
		"rasterloom layers adopt --dry-run",
		"rasterloom layers adopt",
		"rasterloom layers adopt archive.resampled_datasets --data-schema=archive",
	},
	"layers list": {
		"rasterloom layers list",
		"rasterloom layers list --contains=tas --format=legacy",
		"rasterloom layers list -o json | jq '.layers[].name'",
	},
	"layers show": {"rasterloom layers show birds", "rasterloom layers show birds --scan"},
	"layers check": {
		"rasterloom layers check",
		"rasterloom layers check birds plants --scan",
		"rasterloom layers check birds --coordinates --tolerance=0",
	},
	"layers register": {
		"rasterloom layers register soil public.soil_2019 --bounds=-10,40,10,60 --shape=2000,2000 --crs=EPSG:4326",
		"rasterloom layers register soil public.soil_2019 --bounds=0,0,1000,1000 --resolution=10 --nodata=-9999 --dry-run",
	},
	"layers drop": {"rasterloom layers drop soil", "rasterloom layers drop dem --delete-tiles"},
	"ingest": {
		"rasterloom ingest dem.tif --name=dem",
		"rasterloom ingest climate.nc --name=tas --band=1 --crs=EPSG:4326 --same-grid-as=pr",
	},
	"migrate plan":     {"rasterloom migrate plan birds"},
	"migrate start":    {"rasterloom migrate start birds --watch", "rasterloom migrate start birds --rate=50000 --key=birds-2027"},
	"migrate list":     {"rasterloom migrate list", "rasterloom migrate list birds -o json"},
	"migrate show":     {"rasterloom migrate show birds", "rasterloom migrate show m17"},
	"migrate watch":    {"rasterloom migrate watch birds", "rasterloom migrate watch m17 -o json"},
	"migrate pause":    {"rasterloom migrate pause birds"},
	"migrate resume":   {"rasterloom migrate resume birds"},
	"migrate cutover":  {"rasterloom migrate cutover birds"},
	"migrate rollback": {"rasterloom migrate rollback birds"},
	"migrate finalize": {"rasterloom migrate finalize birds --drop-old-table"},
	"migrate abort":    {"rasterloom migrate abort birds"},
	"align": {
		"rasterloom align",
		"rasterloom align birds plants",
		"rasterloom align birds plants --reference=birds --tolerance=0.01 -o json",
	},
	"plan": {
		"rasterloom plan birds plants",
		"rasterloom plan b=birds p=plants --rows-kept=all --extent=intersection",
		"rasterloom plan tas dem --reference=tas --resampling=dem=average",
	},
	"merge": {
		"rasterloom merge birds plants -o table.parquet",
		"rasterloom merge b=birds p=plants --rows-kept=all -o table.csv",
		`rasterloom merge birds -o - | python -c 'import pyarrow as pa; print(pa.ipc.open_stream("/dev/stdin").read_all())'`,
	},
	"compare": {"rasterloom compare birds plants", "rasterloom compare birds p=plants --rows-kept=all -o json"},
	"export": {
		"rasterloom export birds plants --to=table.parquet",
		"rasterloom export birds plants --to=parts/ --part-rows=5000000 --key=nightly-2027-06-30",
	},
	"doctor":       {"rasterloom doctor", "rasterloom doctor --url=https://rasterloom.example:7400 --output=json"},
	"config print": {"rasterloom config print", "rasterloom config print up --listen=127.0.0.1:8400", "rasterloom config print -o json align"},
	"config check": {"rasterloom config check", "rasterloom --config=rasterloom.yaml config check up"},
	"token new":    {"rasterloom token new birds-lab --role=reader --file=tokens > birds-lab.token", "rasterloom token new night-job --role=submitter --expires=2027-06-30"},
	"sql roles":    {"rasterloom sql roles --database=rasters | psql", "rasterloom sql roles --schemas=public,archive --owners=gis"},
	"completion":   {"rasterloom completion bash >> ~/.bashrc", "rasterloom completion zsh > \"${fpath[1]}/_rasterloom\"", "rasterloom completion fish > ~/.config/fish/completions/rasterloom.fish", "rasterloom completion powershell >> $PROFILE"},
	"version":      {"rasterloom version", "rasterloom version -o json"},
}

// addExamples puts the examples of each command at the end of its help.
func addExamples(k *kong.Kong) error {
	for _, leaf := range k.Model.Leaves(true) {
		list := examples[pathOf(leaf)]
		if len(list) == 0 {
			continue
		}
		leaf.Detail = strings.TrimSpace(leaf.Detail + "\n\nExamples:\n\n  " + strings.Join(list, "\n  "))
	}
	return nil
}

// pathOf is a command without the program's name and without arguments.
func pathOf(leaf *kong.Node) string {
	var names []string
	for node := leaf; node != nil && node.Type == kong.CommandNode; node = node.Parent {
		names = append([]string{node.Name}, names...)
	}
	return strings.Join(names, " ")
}
