// Package nearest finds the names that somebody who mistyped one may have meant.
package nearest

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// leastPart is the length from which a part of a name says which one is meant.
const leastPart = 3

// To gives up to n of the names that are most like name by the number of
// single-character edits, none that differs in more than half of it, and then those
// that begin with it, or hold it.
func To(name string, names []string, n int) []string {
	type near struct {
		name  string
		edits int
	}
	limit := max(2, utf8.RuneCountInString(name)/2)
	folded := []rune(strings.ToLower(name))
	var found []near
	for _, other := range names {
		lower := strings.ToLower(other)
		switch e := edits(folded, []rune(lower), limit); {
		case e <= limit:
			found = append(found, near{other, e})
		case len(folded) < leastPart:
		case strings.HasPrefix(lower, string(folded)):
			found = append(found, near{other, limit + 1})
		case strings.Contains(lower, string(folded)):
			found = append(found, near{other, limit + 2})
		}
	}
	slices.SortStableFunc(found, func(a, b near) int { return a.edits - b.edits })
	found = found[:min(n, len(found))]
	list := make([]string, len(found))
	for i, f := range found {
		list[i] = f.name
	}
	return list
}

// edits is the Levenshtein distance of two texts, or some number above the
// limit when the distance is.
func edits(a, b []rune, limit int) int {
	if d := len(a) - len(b); d > limit || -d > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i, x := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j, y := range b {
			change := diagonal
			if x != y {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
