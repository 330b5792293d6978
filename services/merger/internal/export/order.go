package export

import (
	"github.com/rasterloom/rasterloom/fault"
)

const (
	// partBytes is the size of a part's values when nobody says otherwise.
	partBytes = 512 << 20
	// batchRows is the size of the batches that parts are written in. It decides
	// their bytes.
	batchRows = 1 << 16
	// maxParts keeps directories and manifests readable.
	maxParts = 10_000
)

// Complete checks an order and decides what it leaves open. Its plan is that of
// the merge as asked for; batches and endpoints of it do not matter, and become
// what makes the bytes the same every time. Errors: Invalid (name, part_rows),
// Limit LIMIT_EXCEEDED (parts).
func (o *Order) Complete() error {
	if err := CheckName(o.Name); err != nil {
		return err
	}
	o.Plan.BatchRows, o.Plan.Endpoints = batchRows, 1
	rows, _ := o.Plan.MaxRows()
	if single(o.Name) {
		if o.PartRows != 0 {
			return fault.New(fault.Invalid, fault.InvalidArgument,
				"part_rows is %d, and %q is a single file: leave one of them out, or take a name that does not end in %s",
				o.PartRows, o.Name, fileSuffix).With("field", "spec.part_rows").With("value", o.PartRows)
		}
		o.PartRows = max(1, rows)
		return nil
	}
	if o.PartRows == 0 {
		// Whole batches, so that a part costs no cut one.
		batches := max(1, int64(partBytes/o.Plan.RowBytes())/batchRows, rows/maxParts/batchRows+1)
		o.PartRows = batches * batchRows
	}
	if parts := (rows-1)/o.PartRows + 1; parts > maxParts {
		return fault.New(fault.Limit, fault.LimitExceeded,
			"up to %d rows in parts of %d make up to %d parts, and the limit is %d: raise part_rows", rows, o.PartRows, parts, maxParts).
			With("field", "spec.part_rows").With("value", parts).With("limit", maxParts)
	}
	return nil
}
