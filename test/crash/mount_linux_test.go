package crash_test

import (
	"fmt"
	"syscall"
)

func mount(dir string) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", smallDiskBytes))
}

func unmount(dir string) error { return syscall.Unmount(dir, 0) }
