// Package deployment holds the checks of what no Go code reads: docker-compose.yml, the
// Dockerfile, and deploy/. Each file is loaded by the libraries of the program
// that it is for, so that it is accepted here exactly if it is accepted there.
package deployment
