package resample

import "github.com/rasterloom/rasterloom/internal/layer"

// addRows adds the sum of rows, stride apart, by their weights, to sums, or sets
// sums to it where they are the first: four at a time, always in the same order.
// Parts of so many rows give what all of them give at once. The conversions of
// products keep machines that could fuse a product and a sum from rounding
// differently.
func addRows[S layer.Value](sums []float64, values []S, stride int, weights []float64, first bool) {
	done := addVectors(sums, values, stride, weights, first)
	if done == len(sums) {
		return
	}
	addScalars(sums[done:], values[done:], stride, weights, first)
}

// addScalars is addRows, column by column.
func addScalars[S layer.Value](sums []float64, values []S, stride int, weights []float64, first bool) {
	n := len(sums)
	for len(weights) > 0 {
		w := weights[0]
		a := values[:n]
		switch {
		case len(weights) >= 4:
			w1, w2, w3 := weights[1], weights[2], weights[3]
			b, c, d := values[stride:][:n], values[2*stride:][:n], values[3*stride:][:n]
			if first {
				for i := range sums {
					sums[i] = (float64(w*float64(a[i])) + float64(w1*float64(b[i]))) +
						(float64(w2*float64(c[i])) + float64(w3*float64(d[i])))
				}
			} else {
				for i := range sums {
					sums[i] += (float64(w*float64(a[i])) + float64(w1*float64(b[i]))) +
						(float64(w2*float64(c[i])) + float64(w3*float64(d[i])))
				}
			}
			weights = weights[4:]
			if len(weights) > 0 {
				values = values[4*stride:]
			}
		case len(weights) == 3:
			w1, w2 := weights[1], weights[2]
			b, c := values[stride:][:n], values[2*stride:][:n]
			if first {
				for i := range sums {
					sums[i] = (float64(w*float64(a[i])) + float64(w1*float64(b[i]))) + float64(w2*float64(c[i]))
				}
			} else {
				for i := range sums {
					sums[i] += (float64(w*float64(a[i])) + float64(w1*float64(b[i]))) + float64(w2*float64(c[i]))
				}
			}
			weights = nil
		case len(weights) == 2:
			w1 := weights[1]
			b := values[stride:][:n]
			if first {
				for i := range sums {
					sums[i] = float64(w*float64(a[i])) + float64(w1*float64(b[i]))
				}
			} else {
				for i := range sums {
					sums[i] += float64(w*float64(a[i])) + float64(w1*float64(b[i]))
				}
			}
			weights = nil
		default:
			if first {
				for i := range sums {
					sums[i] = float64(w * float64(a[i]))
				}
			} else {
				for i := range sums {
					sums[i] += float64(w * float64(a[i]))
				}
			}
			weights = nil
		}
		first = false
	}
}
