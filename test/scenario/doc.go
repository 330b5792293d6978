// Package scenario has the tests of the suite as a whole: the real binaries, in
// one process and in three, on a real PostgreSQL, asked by the generated clients
// and by plain Arrow Flight.
package scenario
