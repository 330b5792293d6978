//go:build !failpoints

package failpoint

// Hit marks a point.
func Hit(string) {}

// Armed says whether Hit would stop.
func Armed(string) bool { return false }
