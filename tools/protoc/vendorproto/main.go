// Command vendorproto writes the .proto sources that our contracts import and
// that their owners publish for Go only as generated code: it prints them from
// the descriptors inside that code, so what we vendor is what we link against.
//
// Usage: vendorproto DIR
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/jhump/protoreflect/v2/protoprint"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: vendorproto DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1], validate.File_buf_validate_validate_proto); err != nil {
		fmt.Fprintln(os.Stderr, "vendorproto:", err)
		os.Exit(1)
	}
}

func write(dir string, file protoreflect.FileDescriptor) error {
	path := filepath.Join(dir, filepath.FromSlash(file.Path()))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	fmt.Fprintf(out, "// Printed by tools/protoc/vendorproto from the descriptor in\n"+
		"// buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go.\n"+
		"// Copyright 2023-2026 Buf Technologies, Inc. Apache License 2.0.\n\n")
	if err := (&protoprint.Printer{Compact: true}).PrintProtoFile(file, out); err != nil {
		return err
	}
	return out.Close()
}
