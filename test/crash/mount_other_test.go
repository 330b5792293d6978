//go:build !linux

package crash_test

import "errors"

func mount(string) error   { return errors.ErrUnsupported }
func unmount(string) error { return errors.ErrUnsupported }
