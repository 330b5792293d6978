// Package rpc answers the merger's Connect calls, and plans merges: it asks the
// schema service what the layers are and the aligner how they lie on each
// other, and hands the answers to the pure planner.
package rpc

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"unicode/utf8"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/rasterloom/rasterloom/fault"
	alignerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1/alignerv1connect"
	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// Planner plans merges.
type Planner struct {
	schema  schemav1connect.SchemaServiceClient
	aligner alignerv1connect.AlignerServiceClient
	limits  merge.Limits
	// UseLegacy is what a spec means that does not say use_legacy_merge.
	UseLegacy bool
}

// NewPlanner makes a planner that asks these services.
func NewPlanner(schema schemav1connect.SchemaServiceClient, aligner alignerv1connect.AlignerServiceClient, limits merge.Limits) *Planner {
	return &Planner{schema: schema, aligner: aligner, limits: limits}
}

// planned is a plan with what only an answer needs.
type planned struct {
	*merge.Plan
	// spec is the request with everything decided that it left open: the same
	// spec always gives the same plan, as long as the layers stay as they are.
	spec *mergerv1.MergeSpec
	// layers and relations are in the order of the plan's threads.
	layers      []*layerv1.Layer
	relations   []*gridv1.Relation
	explanation string
}

// PlanCommand plans the command of a Flight descriptor: a MergeSpec as protobuf,
// or as JSON if its first byte is '{' (which begins no MergeSpec in protobuf:
// it would be a group). canonical is the request with everything
// decided, as protobuf; it plans to the same. Errors: as PlanMerge, and Invalid
// INVALID_ARGUMENT for a command that is none.
func (p *Planner) PlanCommand(ctx context.Context, command []byte) (plan *merge.Plan, canonical []byte, err error) {
	spec := &mergerv1.MergeSpec{}
	if bytes.HasPrefix(command, []byte("{")) {
		err = protojson.Unmarshal(command, spec)
	} else {
		err = proto.Unmarshal(command, spec)
	}
	if err != nil {
		return nil, nil, fault.New(fault.Invalid, fault.InvalidArgument,
			"the command is no MergeSpec, neither as protobuf nor as JSON").With("field", "command").Because(err)
	}
	if err := wire.Validate(spec); err != nil {
		return nil, nil, err
	}
	return p.planBytes(ctx, spec)
}

// PlanLayers plans a merge of these layers with every default.
func (p *Planner) PlanLayers(ctx context.Context, names []string) (plan *merge.Plan, canonical []byte, err error) {
	spec := specOf(names)
	if err := wire.Validate(spec); err != nil {
		return nil, nil, err
	}
	return p.planBytes(ctx, spec)
}

func specOf(names []string) *mergerv1.MergeSpec {
	spec := &mergerv1.MergeSpec{}
	for _, name := range names {
		spec.Layers = append(spec.Layers, &mergerv1.LayerSelection{Name: name})
	}
	return spec
}

func (p *Planner) planBytes(ctx context.Context, spec *mergerv1.MergeSpec) (*merge.Plan, []byte, error) {
	plan, err := p.plan(ctx, spec)
	if err != nil {
		return nil, nil, err
	}
	canonical, err := proto.MarshalOptions{Deterministic: true}.Marshal(plan.spec)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the canonical spec: %w", err)
	}
	return plan.Plan, canonical, nil
}

// Readable lists the layers of the catalog that can be read, by name, a page at
// a time.
func (p *Planner) Readable(ctx context.Context, each func(layer.Layer) error) error {
	token := ""
	for {
		answer, err := p.schema.ListLayers(ctx, connect.NewRequest(&schemav1.ListLayersRequest{PageToken: token}))
		if err != nil {
			return wire.FromConnect("schema", err)
		}
		for _, message := range answer.Msg.GetLayers() {
			l, err := wire.FromLayer(message)
			if err != nil || checkReadable(l) != nil {
				continue
			}
			if err := each(l); err != nil {
				return err
			}
		}
		if token = answer.Msg.GetNextPageToken(); token == "" {
			return nil
		}
	}
}

// CheckGenerations asks whether the plan's layers are still what they were.
// Errors: Conflict LAYER_CHANGED.
func (p *Planner) CheckGenerations(ctx context.Context, plan *merge.Plan) error {
	names := make([]string, len(plan.Threads))
	for i, t := range plan.Threads {
		names[i] = t.Layer.Name
	}
	layers, _, err := p.layers(ctx, names)
	if f := fault.From(err); f != nil && f.Reason == fault.LayerNotFound {
		return fault.New(fault.Conflict, fault.LayerChanged, "%s", f.Message).With("layer", f.Fields["layer"])
	}
	if err != nil {
		return err
	}
	for i, l := range layers {
		if was := plan.Threads[i].Layer.Generation; l.Generation != was {
			return fault.New(fault.Conflict, fault.LayerChanged, "layer %q changed: its generation is %d, and was %d", l.Name, l.Generation, was).
				With("layer", l.Name).With("generation", l.Generation).With("planned_generation", was)
		}
	}
	return nil
}

// layers asks for layers by name.
func (p *Planner) layers(ctx context.Context, names []string) ([]layer.Layer, []*layerv1.Layer, error) {
	answer, err := p.schema.BatchGetLayers(ctx, connect.NewRequest(&schemav1.BatchGetLayersRequest{Names: names}))
	if err != nil {
		return nil, nil, wire.FromConnect("schema", err)
	}
	messages := answer.Msg.GetLayers()
	if len(messages) != len(names) {
		return nil, nil, fmt.Errorf("the schema service gave %d layers for %d names", len(messages), len(names))
	}
	layers := make([]layer.Layer, len(names))
	for i, message := range messages {
		if layers[i], err = wire.FromLayer(message); err != nil {
			return nil, nil, err
		}
	}
	return layers, messages, nil
}

// plan decides everything about a merge. spec has passed its field rules.
func (p *Planner) plan(ctx context.Context, spec *mergerv1.MergeSpec) (*planned, error) {
	spec = proto.CloneOf(spec)
	names, err := p.names(spec)
	if err != nil {
		return nil, err
	}
	layers, messages, err := p.layers(ctx, names)
	if err != nil {
		return nil, err
	}
	for _, l := range layers {
		if err := checkReadable(l); err != nil {
			return nil, err
		}
	}
	related, err := p.relate(ctx, spec, messages)
	if err != nil {
		return nil, err
	}
	lattice, err := wire.FromGrid(related.GetReference())
	if err != nil {
		return nil, err
	}
	out := &planned{
		spec: spec, layers: messages, relations: related.GetRelations(), explanation: related.GetReferenceExplanation(),
		Plan: &merge.Plan{
			Lattice: lattice, Reference: -1, Keep: rowsKept[spec.GetRowsKept()], Coordinates: coordinates[spec.GetCoordinateColumns()],
			BatchRows: int(spec.GetBatchRows()), Endpoints: int(spec.GetEndpoints()), Limits: p.limits, Legacy: p.legacy(ctx, spec),
			Compression: compressions[spec.GetBodyCompression()],
		},
	}
	for i, l := range layers {
		t := merge.Thread{Layer: l, Relation: wire.FromRelation(out.relations[i]), Explanation: out.relations[i].GetExplanation(), Type: l.StoredType, Duplicates: duplicates[spec.GetDuplicates()]}
		if i < len(spec.GetLayers()) {
			if own := spec.GetLayers()[i].GetDuplicates(); own != mergerv1.Duplicates_DUPLICATES_UNSPECIFIED {
				t.Duplicates = duplicates[own]
			}
			t.Column = spec.GetLayers()[i].GetColumn()
			if spec.GetValueTypes() == mergerv1.ValueTypes_VALUE_TYPES_DECLARED && l.DeclaredType != layer.TypeUnknown {
				t.Type = l.DeclaredType
			}
		}
		if l.Name == related.GetReferenceLayer() {
			out.Reference = i
		}
		var selection *mergerv1.LayerSelection
		if i < len(spec.GetLayers()) {
			selection = spec.GetLayers()[i]
		}
		if t.Resampling, err = resamplingOf(t, lattice, spec, selection); err != nil {
			return nil, err
		}
		if err := checkMergeable(t, lattice, out.relations[i], related.GetReferenceLayer(), spec.GetTolerancePixels()); err != nil {
			return nil, err
		}
		out.Threads = append(out.Threads, t)
	}
	if out.Window, err = window(spec, out.Plan); err != nil {
		return nil, err
	}
	if out.Reference < 0 && spec.GetReference().GetGrid() == nil {
		// A merge of one layer is asked of the aligner with the layer's own grid.
		out.Reference = slices.Index(names, referenceName(spec))
	}
	if out.Reference >= 0 {
		spec.Reference = &mergerv1.Reference{Lattice: &mergerv1.Reference_Layer{Layer: names[out.Reference]}}
	}
	if err := out.Complete(); err != nil {
		return nil, err
	}
	if err := checkBatch(out.Plan); err != nil {
		return nil, err
	}
	spec.BatchRows, spec.Endpoints = int32(out.BatchRows), int32(out.Endpoints)
	return out, nil
}

// legacy decides between the ways to merge, and fills it in. Whoever still asks
// for the old one is told in the log, too.
func (p *Planner) legacy(ctx context.Context, spec *mergerv1.MergeSpec) bool {
	if spec.UseLegacyMerge == nil {
		spec.UseLegacyMerge = new(p.UseLegacy)
	}
	if spec.GetUseLegacyMerge() {
		wire.Warn(ctx, merge.LegacyWarning)
	}
	return spec.GetUseLegacyMerge()
}

// names lists the layers to ask for: the selected ones, and then the reference
// if it is not one of them. It fills in the columns' names and the tolerance,
// and refuses what can be refused without asking anybody.
func (p *Planner) names(spec *mergerv1.MergeSpec) ([]string, error) {
	if err := merge.CheckCount(len(spec.GetLayers()), p.limits); err != nil {
		return nil, err
	}
	var names, columns []string
	for _, selection := range spec.GetLayers() {
		name := selection.GetName()
		if slices.Contains(names, name) {
			return nil, fault.New(fault.Invalid, fault.LayerRepeated, "layer %q is named twice", name).
				With("field", "layers").With("layer", name)
		}
		if selection.Column == "" {
			selection.Column = name
		}
		names, columns = append(names, name), append(columns, selection.GetColumn())
	}
	if err := merge.CheckColumns(coordinates[spec.GetCoordinateColumns()], columns); err != nil {
		return nil, err
	}
	tolerance := grid.DefaultTolerancePixels
	if spec.TolerancePixels != nil {
		tolerance = spec.GetTolerancePixels()
	}
	if !(tolerance > 0 && tolerance < 0.5) {
		return nil, fault.New(fault.Invalid, fault.InvalidArgument, "tolerance_pixels is %v, and must be above 0 and below 0.5", tolerance).
			With("field", "tolerance_pixels").With("value", tolerance).With("limit", 0.5)
	}
	spec.TolerancePixels = &tolerance
	if name := spec.GetReference().GetLayer(); name != "" && !slices.Contains(names, name) {
		names = append(names, name)
	}
	return names, nil
}

// referenceName is the reference layer of a spec that names one, or that has
// but one layer.
func referenceName(spec *mergerv1.MergeSpec) string {
	if name := spec.GetReference().GetLayer(); name != "" {
		return name
	}
	return spec.GetLayers()[0].GetName()
}

// relate asks the aligner how the layers lie on the reference.
func (p *Planner) relate(ctx context.Context, spec *mergerv1.MergeSpec, layers []*layerv1.Layer) (*alignerv1.CalculateGridShiftsResponse, error) {
	request := &alignerv1.CalculateGridShiftsRequest{TolerancePixels: spec.TolerancePixels}
	for _, l := range layers {
		request.Layers = append(request.Layers, &alignerv1.LayerSource{Source: &alignerv1.LayerSource_Layer{Layer: l}})
	}
	switch {
	case spec.GetReference().GetGrid() != nil:
		request.Reference = &alignerv1.Reference{Lattice: &alignerv1.Reference_Grid{Grid: spec.GetReference().GetGrid()}}
	case len(layers) == 1:
		// The aligner relates two layers, or one to a grid.
		request.Reference = &alignerv1.Reference{Lattice: &alignerv1.Reference_Grid{Grid: layers[0].GetGrid()}}
	case spec.GetReference().GetLayer() != "":
		request.Reference = &alignerv1.Reference{Lattice: &alignerv1.Reference_Layer{Layer: spec.GetReference().GetLayer()}}
	}
	answer, err := p.aligner.CalculateGridShifts(ctx, connect.NewRequest(request))
	if err != nil {
		return nil, wire.FromConnect("aligner", err)
	}
	if len(answer.Msg.GetRelations()) != len(layers) {
		return nil, fmt.Errorf("the aligner gave %d relations for %d layers", len(answer.Msg.GetRelations()), len(layers))
	}
	return answer.Msg, nil
}

// window is the part of the lattice that a spec asks for.
func window(spec *mergerv1.MergeSpec, plan *merge.Plan) (grid.Window, error) {
	var placed []grid.Placed
	for _, t := range plan.Threads {
		if p, ok := t.Placed(plan.Lattice); ok && t.Selected() {
			placed = append(placed, p)
		} else if t.Selected() && spec.GetExtent().GetRule() == mergerv1.ExtentRule_EXTENT_RULE_INTERSECTION {
			return grid.Window{}, fault.New(fault.Range, fault.Disjoint, "layer %q covers no cell of the lattice", t.Layer.Name).
				With("layer", t.Layer.Name)
		}
	}
	if spec.GetExtent().GetBounds() == nil {
		return merge.WindowByRule(plan.Lattice, extents[spec.GetExtent().GetRule()], placed), nil
	}
	return plan.WindowOfBounds(wire.FromBounds(spec.GetExtent().GetBounds()), placed)
}

// checkBatch refuses batches that would not fit into a message. Errors: Limit
// LIMIT_EXCEEDED, with the largest number of rows that fits.
func checkBatch(plan *merge.Plan) error {
	const envelope = 1 << 20 // for the header and the padding of 256 layers
	most := int64((wire.MaxSendBytes - envelope) / plan.RowBytes())
	if rows := min(int64(plan.BatchRows), plan.Window.Cells()); rows > most {
		return fault.New(fault.Limit, fault.LimitExceeded,
			"batches of %d rows would have %.0f bytes, and the limit for a message is %d: ask for batch_rows of at most %d",
			rows, float64(rows)*plan.RowBytes(), wire.MaxSendBytes, most).
			With("field", "batch_rows").With("value", rows).With("limit", most)
	}
	return nil
}

// checkReadable says whether a layer can be read for a merge.
func checkReadable(l layer.Layer) error {
	if err := l.CheckReadable(); err != nil {
		return err
	}
	return merge.CheckStored(l)
}

// checkMergeable refuses a layer whose cells cannot be placed on the lattice by
// whole rows and columns, and that is not resampled.
func checkMergeable(t merge.Thread, lattice grid.Grid, relation *gridv1.Relation, reference string, tolerance float64) error {
	name, r := t.Layer.Name, t.Relation
	if reference == "" {
		reference = "the given grid"
	} else {
		reference = fmt.Sprintf("layer %q", reference)
	}
	switch r.Verdict {
	case grid.VerdictIdentical, grid.VerdictAligned, grid.VerdictShift:
		return nil
	case grid.VerdictReproject:
		return fault.New(fault.Precondition, fault.CRSMismatch,
			"layer %q is in the CRS %s and the reference, %s, in %s, and a merge reprojects nothing: bring one of them to the CRS of the other once, "+
				"for instance by gdalwarp -t_srs at about its own resolution, and ingest the result; the merge resamples it from there",
			name, shorten(t.Layer.Grid.CRS), reference, shorten(lattice.CRS)).
			With("layer", name).With("crs", shorten(t.Layer.Grid.CRS)).With("reference_crs", shorten(lattice.CRS))
	case grid.VerdictDisjoint:
		return fault.New(fault.Range, fault.Disjoint, "layer %q has no cell in common with the reference, %s", name, reference).
			With("layer", name)
	case grid.VerdictResample:
		if t.Resampling != nil {
			return nil
		}
		return needsResampling(t, lattice, reference, tolerance)
	default:
		return fmt.Errorf("the aligner gave layer %q the verdict %s", name, relation.GetVerdict())
	}
}

// shorten keeps a CRS text, which may be WKT, readable in a sentence.
func shorten(crs string) string {
	const limit = 120
	if crs == "" {
		return "(none)"
	}
	if len(crs) <= limit {
		return crs
	}
	end := limit
	for !utf8.RuneStart(crs[end]) {
		end--
	}
	return crs[:end] + "…"
}

// The enums of the contract, read. What is unspecified takes the default that
// the contract states.
var (
	rowsKept = map[mergerv1.RowsKept]merge.RowsKept{
		mergerv1.RowsKept_ROWS_KEPT_UNSPECIFIED: merge.KeepAny,
		mergerv1.RowsKept_ROWS_KEPT_ANY:         merge.KeepAny,
		mergerv1.RowsKept_ROWS_KEPT_ALL:         merge.KeepAll,
		mergerv1.RowsKept_ROWS_KEPT_REFERENCE:   merge.KeepReference,
		mergerv1.RowsKept_ROWS_KEPT_EVERY:       merge.KeepEvery,
	}
	coordinates = map[mergerv1.CoordinateColumns]merge.Coordinates{
		mergerv1.CoordinateColumns_COORDINATE_COLUMNS_UNSPECIFIED: {XY: true},
		mergerv1.CoordinateColumns_COORDINATE_COLUMNS_XY:          {XY: true},
		mergerv1.CoordinateColumns_COORDINATE_COLUMNS_ROW_COL:     {RowCol: true},
		mergerv1.CoordinateColumns_COORDINATE_COLUMNS_BOTH:        {XY: true, RowCol: true},
		mergerv1.CoordinateColumns_COORDINATE_COLUMNS_NONE:        {},
	}
	compressions = map[mergerv1.BodyCompression]merge.Compression{
		mergerv1.BodyCompression_BODY_COMPRESSION_UNSPECIFIED: merge.Uncompressed,
		mergerv1.BodyCompression_BODY_COMPRESSION_NONE:        merge.Uncompressed,
		mergerv1.BodyCompression_BODY_COMPRESSION_LZ4_FRAME:   merge.LZ4Frame,
		mergerv1.BodyCompression_BODY_COMPRESSION_ZSTD:        merge.ZSTD,
	}
	duplicates = map[mergerv1.Duplicates]layer.Duplicates{
		mergerv1.Duplicates_DUPLICATES_UNSPECIFIED: layer.DuplicatesError,
		mergerv1.Duplicates_DUPLICATES_ERROR:       layer.DuplicatesError,
		mergerv1.Duplicates_DUPLICATES_FIRST:       layer.DuplicatesFirst,
		mergerv1.Duplicates_DUPLICATES_LAST:        layer.DuplicatesLast,
		mergerv1.Duplicates_DUPLICATES_MEAN:        layer.DuplicatesMean,
	}
	extents = map[mergerv1.ExtentRule]merge.ExtentRule{
		mergerv1.ExtentRule_EXTENT_RULE_UNSPECIFIED:  merge.ExtentUnion,
		mergerv1.ExtentRule_EXTENT_RULE_UNION:        merge.ExtentUnion,
		mergerv1.ExtentRule_EXTENT_RULE_INTERSECTION: merge.ExtentIntersection,
		mergerv1.ExtentRule_EXTENT_RULE_REFERENCE:    merge.ExtentReference,
	}
)
