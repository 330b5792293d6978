package access

// Rule is what a method needs, and how its time and number are bounded.
type Rule struct {
	Role Role
	// Stream is true for a call that lasts as long as somebody reads or writes
	// it.
	Stream bool
	// Long is true for a call that reads whole tables: it takes as long as these are
	// large, and so may take as long as a stream.
	Long bool
}

// rules says what every method needs. A method that is not here is refused to
// everybody; a test compares the table with the contracts.
//
// Only an operator does what others notice (a table that changes its place) or
// what cannot be undone.
var rules = map[string]Rule{
	"grpc.health.v1.Health/Check": {Role: Nobody},
	"grpc.health.v1.Health/Watch": {Role: Nobody, Stream: true},
	"grpc.health.v1.Health/List":  {Role: Nobody},

	"grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      {Role: Reader, Stream: true},
	"grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": {Role: Reader, Stream: true},

	"rasterloom.aligner.v1.AlignerService/CalculateGridShifts":          {Role: Reader},
	"rasterloom.aligner.v1.AlignerService/AnalyzeAlignment":             {Role: Reader},
	"rasterloom.aligner.v1.AlignerService/ChooseReference":              {Role: Reader},
	"rasterloom.aligner.v1.AlignerService/CreateAlignedCoordinateQuery": {Role: Reader},

	"rasterloom.schema.v1.SchemaService/AdoptCatalog":   {Role: Submitter},
	"rasterloom.schema.v1.SchemaService/ListLayers":     {Role: Reader},
	"rasterloom.schema.v1.SchemaService/GetLayer":       {Role: Reader},
	"rasterloom.schema.v1.SchemaService/BatchGetLayers": {Role: Reader},
	"rasterloom.schema.v1.SchemaService/DetectFormat":   {Role: Reader},
	"rasterloom.schema.v1.SchemaService/RegisterLayer":  {Role: Submitter},
	"rasterloom.schema.v1.SchemaService/DropLayer":      {Role: Operator},

	"rasterloom.schema.v1.CoordinateService/EnsureCoordinates":   {Role: Submitter, Long: true},
	"rasterloom.schema.v1.CoordinateService/ValidateCoordinates": {Role: Reader},

	"rasterloom.schema.v1.IngestService/PlanIngest": {Role: Submitter},

	"rasterloom.schema.v1.MigrationService/PlanMigration":   {Role: Reader, Long: true},
	"rasterloom.schema.v1.MigrationService/StartMigration":  {Role: Submitter, Long: true},
	"rasterloom.schema.v1.MigrationService/GetMigration":    {Role: Reader},
	"rasterloom.schema.v1.MigrationService/ListMigrations":  {Role: Reader},
	"rasterloom.schema.v1.MigrationService/WatchMigration":  {Role: Reader, Stream: true},
	"rasterloom.schema.v1.MigrationService/PauseMigration":  {Role: Submitter},
	"rasterloom.schema.v1.MigrationService/ResumeMigration": {Role: Submitter, Long: true}, // compares, of a restored database
	"rasterloom.schema.v1.MigrationService/CutOver":         {Role: Operator, Long: true},
	"rasterloom.schema.v1.MigrationService/Rollback":        {Role: Operator, Long: true},
	"rasterloom.schema.v1.MigrationService/Finalize":        {Role: Operator, Long: true},
	"rasterloom.schema.v1.MigrationService/AbortMigration":  {Role: Operator},

	"rasterloom.merger.v1.MergerService/PlanMerge":    {Role: Reader},
	"rasterloom.merger.v1.MergerService/CompareMerge": {Role: Reader},

	"rasterloom.merger.v1.ExportService/StartExport":  {Role: Submitter},
	"rasterloom.merger.v1.ExportService/GetExport":    {Role: Reader},
	"rasterloom.merger.v1.ExportService/ListExports":  {Role: Reader},
	"rasterloom.merger.v1.ExportService/WatchExport":  {Role: Reader, Stream: true},
	"rasterloom.merger.v1.ExportService/CancelExport": {Role: Submitter},

	// Handshake is for clients that trade a password for a token, which we have
	// no use for: it says so to everybody.
	"arrow.flight.protocol.FlightService/Handshake":      {Role: Nobody},
	"arrow.flight.protocol.FlightService/ListFlights":    {Role: Reader, Stream: true},
	"arrow.flight.protocol.FlightService/GetFlightInfo":  {Role: Reader},
	"arrow.flight.protocol.FlightService/PollFlightInfo": {Role: Reader},
	"arrow.flight.protocol.FlightService/GetSchema":      {Role: Reader},
	"arrow.flight.protocol.FlightService/DoGet":          {Role: Reader, Stream: true},
	"arrow.flight.protocol.FlightService/DoPut":          {Role: Submitter, Stream: true},
	"arrow.flight.protocol.FlightService/DoExchange":     {Role: Submitter, Stream: true},
	// Cancelling and renewing a flight needs a ticket of one's own.
	"arrow.flight.protocol.FlightService/DoAction":    {Role: Reader},
	"arrow.flight.protocol.FlightService/ListActions": {Role: Reader},
}

// RuleOf gives the rule of a method, such as
// rasterloom.schema.v1.SchemaService/GetLayer; false when it has none, and is
// refused to everybody.
func RuleOf(method string) (Rule, bool) {
	r, ok := rules[method]
	return r, ok
}
