//go:build !failpoints

package failpoint

// Enabled says whether points are more than marks.
const Enabled = false

// Hit marks a point.
func Hit(string) {}
