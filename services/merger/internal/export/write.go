package export

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// ManifestName is the last file of a directory: it lists the parts.
const ManifestName = "_manifest.json"

// Cells reads stored cells.
type Cells interface {
	// Open starts to read requests at one snapshot: a source for each. Close
	// ends it.
	Open(ctx context.Context, requests []layer.CellRequest) (sources []merge.Source, closeAll func(), err error)
}

// Generations knows whether layers are what they were.
type Generations interface {
	// CheckGenerations fails with LAYER_CHANGED when the plan's layers are not
	// what they were.
	CheckGenerations(ctx context.Context, plan *merge.Plan) error
}

// Encoder makes the bytes of files.
type Encoder interface {
	// New begins a file of a plan's table.
	New(w io.Writer, plan *merge.Plan) (Table, error)
	// Memory is what one file in the making takes beside the merge, in bytes.
	Memory(plan *merge.Plan) int64
}

// Table is a file in the making.
type Table interface {
	// Write adds the rows [start, stop) of a batch. It keeps nothing of the
	// batch. It may hold rows back until Close.
	Write(b *merge.Batch, start, stop int) error
	// Close ends the file.
	Close() error
	// Discard gives it up and frees what it holds; after Close it does nothing.
	Discard()
}

// Writer carries out orders.
type Writer struct {
	directory   *Directory
	cells       Cells
	generations Generations
	encoder     Encoder
	budget      *merge.Budget
	// pause is the time between two tries for what others have taken.
	pause time.Duration
}

// NewWriter makes a writer.
func NewWriter(d *Directory, c Cells, g Generations, e Encoder, b *merge.Budget) *Writer {
	return &Writer{directory: d, cells: c, generations: g, encoder: e, budget: b, pause: time.Second}
}

// Check says whether an order can be carried out. Errors: Exists EXPORT_EXISTS,
// Limit LIMIT_EXCEEDED.
func (w *Writer) Check(o Order) error {
	if err := w.budget.Check(w.wish(o).Least); err != nil {
		return err
	}
	return w.directory.CheckFree(o.Name)
}

func (w *Writer) wish(o Order) merge.Wish {
	wish, file := o.Plan.Wish(), w.encoder.Memory(o.Plan)
	return merge.Wish{Least: wish.Least + file, Most: wish.Most + file}
}

// Run carries out an order: all layers are read at one moment, and what is
// written appears, whole, once everything agrees. On an error nothing stays.
func (w *Writer) Run(ctx context.Context, id string, o Order, tell Teller) (Manifest, error) {
	rows := merge.Rows{Start: o.Plan.Window.RowStart, Stop: o.Plan.Window.RowStop}
	r, err := w.acquire(ctx, o, rows)
	if err != nil {
		return Manifest{}, err
	}
	defer func() { r.release() }()
	tell.Writing()
	stage, err := w.directory.stage(id, o.Name)
	if err != nil {
		return Manifest{}, err
	}
	defer stage.discard()

	c := &cutter{order: o, stage: stage, encoder: w.encoder, rows: rows, tell: tell}
	defer c.giveUp()
	if err := c.begin(); err != nil {
		return Manifest{}, err
	}
	result, err := merge.Weave(ctx, r.plan, rows, r.sources, c.add)
	if err != nil {
		return Manifest{}, err
	}
	if err := c.end(); err != nil {
		return Manifest{}, err
	}
	r.release()
	r.release = func() {}

	m := manifestOf(o.Plan, result, c.parts)
	if m.Rows != result.Rows {
		return Manifest{}, fault.New(fault.Corrupt, fault.DataCorrupt,
			"export %q: %d rows were merged and %d written", o.Name, result.Rows, m.Rows).With("name", o.Name)
	}
	if !single(o.Name) {
		if err := writeManifest(stage, m); err != nil {
			return Manifest{}, err
		}
	}
	// Every count agrees; the layers have to be what they were, too.
	if err := w.generations.CheckGenerations(ctx, o.Plan); err != nil {
		return Manifest{}, err
	}
	if err := tell.Publishing(); err != nil {
		return Manifest{}, err
	}
	return m, stage.publish()
}

// means is what an order is carried out with.
type means struct {
	plan    *merge.Plan // in the memory that was had
	sources []merge.Source
	release func()
}

// acquire gets memory and connections. Streams, which have a client that waits,
// give up after seconds; an export tries until they are free, and holds nothing
// meanwhile.
func (w *Writer) acquire(ctx context.Context, o Order, rows merge.Rows) (means, error) {
	for {
		r, err := w.tryAcquire(ctx, o, rows)
		if err == nil {
			return r, nil
		}
		if f := fault.From(err); f.Kind != fault.Limit || ctx.Err() != nil {
			return means{}, err
		}
		select {
		case <-time.After(w.pause):
		case <-ctx.Done():
			return means{}, ctx.Err()
		}
	}
}

func (w *Writer) tryAcquire(ctx context.Context, o Order, rows merge.Rows) (means, error) {
	// An order may have waited for long: look before reading for nothing.
	if err := w.generations.CheckGenerations(ctx, o.Plan); err != nil {
		return means{}, err
	}
	bytes, release, err := w.budget.Lease(ctx, o.Owner, w.wish(o))
	if err != nil {
		return means{}, err
	}
	plan := o.Plan.Within(bytes - w.encoder.Memory(o.Plan))
	sources, closeAll, err := w.cells.Open(ctx, plan.Requests(rows))
	if err != nil {
		release()
		return means{}, err
	}
	return means{plan, sources, func() { closeAll(); release() }}, nil
}

// cutter cuts the batches of a merge into parts. There is always a first part,
// be it without rows: a reader finds the columns in it.
type cutter struct {
	order   Order
	stage   *stage
	encoder Encoder
	rows    merge.Rows
	tell    Teller

	parts []Part
	kept  int64 // bytes of parts
	file  *file
	table Table
	held  int64 // rows in the part in the making
	done  Progress
}

func (c *cutter) begin() error {
	name := fmt.Sprintf("part-%05d%s", len(c.parts), fileSuffix)
	if single(c.order.Name) {
		name = c.order.Name
	}
	var err error
	if c.file, err = c.stage.create(name); err != nil {
		return err
	}
	c.table, err = c.encoder.New(c.file, c.order.Plan)
	c.held = 0
	return c.first(err)
}

// first prefers the error of the disk to that of the encoder above it.
func (c *cutter) first(err error) error {
	if err != nil && c.file.err != nil {
		return c.file.err
	}
	return err
}

// end ends the part in the making.
func (c *cutter) end() error {
	if err := c.first(c.table.Close()); err != nil {
		return err
	}
	part, err := c.file.commit(c.held)
	if err != nil {
		return err
	}
	c.parts, c.kept = append(c.parts, part), c.kept+part.Bytes
	return nil
}

// giveUp frees the part in the making.
func (c *cutter) giveUp() {
	if c.table != nil {
		c.table.Discard()
	}
	if c.file != nil {
		c.file.close()
	}
}

func (c *cutter) add(b *merge.Batch) error {
	for at := 0; at < b.Rows; {
		if c.held == c.order.PartRows {
			if err := c.end(); err != nil {
				return err
			}
			if err := c.begin(); err != nil {
				return err
			}
		}
		n := int(min(int64(b.Rows-at), c.order.PartRows-c.held))
		if err := c.first(c.table.Write(b, at, at+n)); err != nil {
			return err
		}
		at += n
		c.held += int64(n)
	}
	c.done.Rows += int64(b.Rows)
	c.done.Parts, c.done.Bytes = len(c.parts), c.kept+c.file.bytes
	c.done.Fraction = float64(b.FirstRow-c.rows.Start) / float64(c.rows.Stop-c.rows.Start)
	c.tell.Progress(c.done)
	return nil
}

func manifestOf(plan *merge.Plan, result merge.Result, parts []Part) Manifest {
	m := Manifest{Version: 1, Parts: parts}
	for _, p := range parts {
		m.Rows += p.Rows
		m.Bytes += p.Bytes
	}
	for i, t := range plan.Threads {
		if t.Selected() {
			m.Layers = append(m.Layers, Layer{t.Layer.Name, t.Column, t.Layer.Generation, result.Cells[i]})
		}
	}
	return m
}

func writeManifest(s *stage, m Manifest) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write a manifest: %w", err)
	}
	f, err := s.create(ManifestName)
	if err != nil {
		return err
	}
	defer f.close()
	if _, err := f.Write(append(text, '\n')); err != nil {
		return err
	}
	_, err = f.commit(0)
	return err
}
