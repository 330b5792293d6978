package merge

import "fmt"

// panicked is a panic that became an error.
type panicked struct {
	value any
	stack []byte
}

// Error gives what was panicked with and where, for the log.
func (p *panicked) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }
