// Package failpoint names the places where a crash must do no harm. In ordinary
// builds a point is nothing. Under the build tag "failpoints" a program can be
// told, by its environment, to stop at one, so that a test can kill it, its
// database or their connection just there:
//
//	RASTERLOOM_FAILPOINT=copy/rows,sync/state   points to stop at, each the first time it is hit
//	RASTERLOOM_FAILPOINT_SOCKET=/tmp/x.sock     where to ask what next; a byte in answer means: go on
//	RASTERLOOM_FAILPOINT_TRACE=/tmp/x.trace     a file that gets the name of every point hit
package failpoint
