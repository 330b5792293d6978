// Package archtest keeps the import rule of docs/architecture.md: which room
// may import which. The rule is the table in this file; the test reads the
// import graph of every module and fails on each import that the table does not
// allow, and on each package that is in no room.
package archtest

// room is a set of packages with one rule. Only what ends up in binaries
// counts: test files may import more.
type room struct {
	// path is where the packages are, below the module path. "*" stands for one
	// path element, and "…" at the end for any number, none included.
	path string
	// may lists what the room imports beyond the standard library: paths below
	// the module path, or import paths of others, each with all below it. "*" is
	// what "*" in path stands for.
	may []string
	// std are packages of the standard library that the room must not import.
	std []string
	// never lists what must not be among the dependencies, not even indirectly.
	never []string
	// why is told with every breach.
	why string
}

var (
	// outside is what waits, logs, or reads the world outside.
	outside = []string{"database/sql", "io/fs", "log", "net", "os", "path/filepath", "syscall"}
	// clock and cancellation.
	clock = []string{"context", "time"}

	pgx     = []string{"github.com/jackc/pgx", "database/sql", "github.com/lib/pq"}
	arrow   = []string{"github.com/apache/arrow-go"}
	connect = []string{"connectrpc.com/connect"}
	zap     = []string{"go.uber.org/zap"}
	proto   = []string{"google.golang.org/protobuf"}
	// rpc is everything that a protocol consists of.
	rpc = list(connect, proto, []string{"google.golang.org/grpc", "net/http"})
)

// interfacesOfSQL can reach nothing: it has the interfaces that values implement
// to be stored, which libraries import that know of no database.
const interfacesOfSQL = "database/sql/driver"

// rooms is the import rule.
var rooms = []room{
	{
		path: "fault",
		std:  list(outside, clock), never: list(rpc, pgx, arrow, zap),
		why: "a fault can be stated anywhere, so it depends on nothing",
	},
	{
		path: "grid",
		may:  []string{"fault"},
		std:  list(outside, clock), never: list(rpc, pgx, arrow, zap),
		why: "the domain is pure: same input, same answer, no waiting and no clock",
	},
	{
		path: "internal/layer",
		may:  []string{"grid", "fault"},
		std:  outside, never: list(rpc, pgx, arrow, zap),
		why: "what a layer is does not depend on how it is stored or sent",
	},
	{
		path: "internal/bitmap",
		std:  list(outside, clock),
		why:  "bits depend on nothing",
	},
	{
		path: "internal/tile",
		may:  []string{"grid", "internal/bitmap", "internal/layer", "fault", "github.com/klauspost/compress/zstd"},
		std:  list(outside, clock), never: list(rpc, pgx, arrow, zap),
		why: "a tile is bytes: where they are kept and who wants the cells is not its business",
	},
	{
		path: "internal/pixelsql",
		may:  []string{"grid", "internal/layer", "fault"},
		std:  list(outside, clock), never: list(rpc, pgx, arrow, zap),
		why: "it writes the text of queries, and must not be able to run one",
	},
	{
		path: "internal/migrate",
		may:  []string{"grid", "internal/layer", "fault"},
		std:  list(outside, []string{"context"}), never: list(rpc, pgx, arrow, zap),
		why: "which step of a migration comes next is decided without taking it",
	},
	{
		path: "internal/contenthash",
		may:  []string{"internal/layer", "github.com/zeebo/xxh3"},
		std:  list(outside, clock), never: list(rpc, pgx, arrow, zap),
		why: "what a table's hash is does not depend on who sends the table",
	},
	{
		path: "internal/nearest",
		std:  list(outside, clock),
		why:  "how alike two names are depends on nothing",
	},
	{
		path: "internal/failpoint",
		why:  "a place to die at on purpose depends on nothing",
	},
	{
		path: "internal/pgstore/…",
		may: []string{
			"internal/pgstore", "internal/pixelsql", "internal/bitmap", "internal/tile", "internal/layer", "internal/migrate", "internal/failpoint", "grid", "fault",
			"github.com/jackc/pgx", "github.com/jackc/puddle", "github.com/pressly/goose", "golang.org/x/sync", "go.uber.org/zap",
			"github.com/exaring/otelpgx",
		},
		never: list([]string{"gen"}, connect, arrow),
		why:   "all SQL lives here, and none of the protocols",
	},
	{
		path: "internal/access",
		may: []string{
			"fault", "golang.org/x/sync", "golang.org/x/time/rate", "github.com/coreos/go-oidc",
		},
		std: []string{"log"}, never: list([]string{"gen"}, connect, proto, []string{"google.golang.org/grpc"}, pgx, arrow, zap),
		why: "who may call what does not depend on the protocol that asks",
	},
	{
		path: "internal/wire",
		may: []string{
			"gen", "internal/access", "internal/layer", "grid", "fault", "connectrpc.com/connect", "connectrpc.com/validate", "buf.build/go/protovalidate",
			"google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto", "go.uber.org/zap",
			"connectrpc.com/otelconnect", "go.opentelemetry.io", "github.com/prometheus/client_golang/prometheus",
		},
		never: list(pgx, arrow),
		why:   "it converts between messages and values, and knows no storage",
	},
	{
		path: "internal/boot",
		may: []string{
			"internal/wire", "internal/access", "fault", "connectrpc.com", "google.golang.org/grpc", "go.uber.org/zap", "github.com/prometheus/client_golang/prometheus", "go.opentelemetry.io",
			"github.com/alecthomas/kong", "golang.org/x/term", "internal/nearest", "go.yaml.in/yaml/v3",
		},
		never: list(pgx, arrow),
		why:   "a process's birth and death know no raster",
	},
	{
		path:  "internal/localpg/…",
		may:   []string{"internal/localpg", "fault", "github.com/jackc/pgx", "github.com/fergusstrange/embedded-postgres", "github.com/xi2/xz", "golang.org/x/sys"},
		never: list([]string{"gen", "grid"}, arrow),
		why:   "it runs a PostgreSQL server, whatever is stored in it",
	},
	{
		path:  "internal/pgtest",
		may:   []string{"internal/localpg", "internal/pgstore", "fault", "github.com/jackc/pgx", "go.uber.org/goleak"},
		never: arrow,
		why:   "databases for tests need a server and our migrations, nothing else",
	},
	{
		path: "internal/archtest",
		why:  "the rule has no part in what it rules",
	},
	{
		path: "gen/…",
		may: []string{
			"gen", "connectrpc.com/connect", "google.golang.org/protobuf", "google.golang.org/genproto",
			"buf.build/gen/go/bufbuild/protovalidate",
		},
		never: list(pgx, arrow, zap),
		why:   "generated code needs the contracts only",
	},
	{
		path: "services/aligner/internal/align",
		may:  []string{"grid", "internal/layer", "internal/pixelsql", "fault"},
		std:  list(outside, clock), never: list(rpc, pgx, arrow, zap),
		why: "relations come from metadata alone: pure, instant",
	},
	{
		path: "services/schema/internal/catalog",
		may:  []string{"grid", "internal/layer", "internal/nearest", "internal/tile", "fault"},
		std:  outside, never: list(rpc, pgx, arrow, zap),
		why: "what a catalog row means is decided without looking anything up",
	},
	{
		path: "services/merger/internal/merge",
		may:  []string{"grid", "internal/bitmap", "internal/layer", "services/merger/internal/resample", "fault", "golang.org/x/sync"},
		std:  outside, never: list(rpc, pgx, arrow, zap),
		why: "the engine weaves numbers; where they come from and go to is not its business",
	},
	{
		path: "services/merger/internal/resample",
		may:  []string{"grid", "internal/layer", "fault", "golang.org/x/sys/cpu"},
		std:  list(outside, clock), never: list(rpc, pgx, arrow, zap),
		why: "resampling is arithmetic on windows of cells",
	},
	{
		path: "services/schema/internal/worker",
		may:  []string{"internal/migrate", "fault", "go.uber.org/zap", "golang.org/x/sync"},
		std:  outside, never: list([]string{"gen"}, connect, pgx, arrow),
		why: "it drives migrations through an interface of its own; storage takes the steps",
	},
	{
		path: "services/schema/internal/ingest",
		may:  []string{"grid", "internal/layer", "internal/tile", "fault", "services/schema/internal/catalog", "golang.org/x/sync"},
		std:  outside, never: list(rpc, pgx, arrow, zap),
		why: "blocks and cells become tiles here; how they come and where they are kept is not its business",
	},
	{
		path: "services/schema/internal/flight",
		may: []string{
			"internal/wire", "internal/layer", "internal/tile", "internal/contenthash", "fault", "services/schema/internal/ingest",
			"github.com/apache/arrow-go", "google.golang.org/grpc",
		},
		std: []string{"database/sql", "net", "os", "log"}, never: pgx,
		why: "a stream of batches in, slices of cells out",
	},
	{
		path: "services/*/internal/rpc",
		may: []string{
			"gen", "internal/access", "internal/wire", "internal/layer", "internal/migrate", "internal/pgstore", "internal/tile", "grid", "fault", "services/*/internal",
			"connectrpc.com/connect", "google.golang.org/protobuf",
		},
		std: []string{"database/sql", "net", "os", "log"}, never: arrow,
		why: "a handler decodes, makes one call, encodes",
	},
	{
		path: "services/merger/internal/columnar",
		may: []string{
			"internal/layer", "grid", "fault", "services/merger/internal/merge", "github.com/apache/arrow-go",
		},
		std: list(outside, clock),
		why: "batches become Arrow records and Parquet bytes; where these go is not its business",
	},
	{
		path: "services/merger/internal/export",
		may:  []string{"internal/layer", "fault", "services/merger/internal/merge", "go.uber.org/zap"},
		std:  []string{"database/sql", "net", "log"}, never: list([]string{"gen"}, connect, proto, pgx, arrow),
		why: "jobs and a directory: what is in a file comes from an encoder, what is in a cell from a source",
	},
	{
		path: "services/merger/internal/flight",
		may: []string{
			"gen", "internal/access", "internal/wire", "internal/layer", "grid", "fault", "services/merger/internal", "github.com/apache/arrow-go",
			"google.golang.org/grpc", "google.golang.org/protobuf", "github.com/prometheus/client_golang/prometheus", "internal/contenthash", "golang.org/x/sync",
		},
		std: []string{"database/sql", "net", "os", "log"},
		why: "columns and batches in, a stream out",
	},
	{
		path: "services/*/cmd/*",
		may:  []string{"services/*", "internal/boot"},
		why:  "main only wires",
	},
	{
		path: "services/merger",
		may: []string{
			"services/merger/internal", "gen", "internal/access", "internal/wire", "internal/boot", "internal/pgstore", "internal/layer", "fault",
			"connectrpc.com/connect", "google.golang.org/grpc", "go.uber.org/zap",
			// What the queue of exports counts, whose own room is free of protobuf.
			"github.com/prometheus/client_golang/prometheus",
			// The allocator is handed in, so that tests can count what is left.
			"github.com/apache/arrow-go/v18/arrow/memory",
		},
		why: "a front door constructs and connects; it reaches other services by their contracts",
	},
	{
		path: "services/schema",
		may: []string{
			"services/schema/internal", "gen", "internal/access", "internal/wire", "internal/boot", "internal/pgstore", "internal/layer", "fault",
			"connectrpc.com/connect", "google.golang.org/grpc", "go.uber.org/zap",
			// What migrations there are, counted: their rooms are free of protobuf.
			"github.com/prometheus/client_golang/prometheus", "internal/migrate",
		},
		why: "a front door constructs and connects; it reaches other services by their contracts",
	},
	{
		path: "services/*",
		may: []string{
			"services/*/internal", "gen", "internal/access", "internal/wire", "internal/boot", "internal/pgstore", "internal/layer", "fault",
			"connectrpc.com/connect", "google.golang.org/grpc", "go.uber.org/zap",
		},
		why: "a front door constructs and connects; it reaches other services by their contracts",
	},
	{
		path: "cmd/rasterloom/internal/table",
		may: []string{
			"internal/contenthash", "internal/layer", "fault", "github.com/apache/arrow-go", "google.golang.org/grpc",
		},
		std: []string{"database/sql", "net", "log"}, never: list([]string{"gen"}, connect, pgx, zap),
		why: "a stream in, a file out: which merge, and how it is told, is the command's",
	},
	{
		path: "cmd/rasterloom/internal/demo",
		may:  []string{"github.com/jackc/pgx"},
		std:  []string{"net", "os", "log"}, never: list([]string{"gen"}, rpc, arrow, zap),
		why: "what an old database left is given back to PostgreSQL as it was; nothing here knows Rasterloom",
	},
	{
		path: "cmd/rasterloom",
		may: []string{
			"cmd/rasterloom/internal", "services/aligner", "services/schema", "services/merger", "internal/access", "internal/boot", "internal/localpg", "internal/wire", "gen", "fault",
			"connectrpc.com/connect", "google.golang.org/protobuf", "go.uber.org/zap", "golang.org/x/term",
			"github.com/alecthomas/kong", "github.com/jedib0t/go-pretty",
		},
		std: []string{"database/sql", "log"},
		why: "the command line asks services and prints; it decides nothing about rasters",
	},
}

// tests are packages of test files only, which may import what they like.
var tests = []string{"test/scenario"}

// bans are rules over several rooms at once.
var bans = []room{
	{
		path:  "services/aligner/…",
		never: list(pgx, arrow),
		why:   "the aligner answers from metadata: it must not be able to reach a database or a pixel",
	},
}

func list(lists ...[]string) []string {
	var all []string
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
