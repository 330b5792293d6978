//go:build unix

package export

import (
	"os"
	"syscall"
)

// canLock says whether locks are to be had.
const canLock = true

// tryLock takes a lock that ends with the process, however it ends. False: some
// other process has it.
func tryLock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}
