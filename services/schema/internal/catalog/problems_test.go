package catalog

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// docs/problems.md has each code, and no other.
func TestProblemsAreDocumented(t *testing.T) {
	codesOf := func(path, pattern string) []string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var codes []string
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			codes = append(codes, m[1])
		}
		slices.Sort(codes)
		return codes
	}
	code := codesOf("problems.go", `= "([A-Z_]+)"`)
	docs := codesOf("../../../../docs/problems.md", `(?m)^\| ([A-Z_]{4,}) `)
	if len(code) < 30 || !slices.Equal(code, docs) {
		t.Errorf("the code has\n%v\nthe docs have\n%v", code, docs)
	}
}
