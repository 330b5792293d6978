// Command reference writes the pages on the contracts, docs/reference/rpc, from
// their descriptors: services, messages, enums, with the comments and the
// validation rules of the .proto files. The generators that others wrote know no
// protovalidate, or are kept no longer.
//
// Usage: buf build -o - | reference DIR
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: buf build -o - | reference DIR")
		os.Exit(2)
	}
	if err := write(os.Stdin, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

// pages are the files of the reference, and the packages in each.
var pages = []struct {
	file, title, about string
	packages           []protoreflect.FullName
}{
	{"aligner.md", "Aligner", "How do these grids relate, in numbers?", []protoreflect.FullName{"rasterloom.aligner.v1"}},
	{"schema.md", "Schema", "What is stored, and how? And what changes it: migrations, rasters that clients send.", []protoreflect.FullName{"rasterloom.schema.v1"}},
	{"merger.md", "Merger", "The one table, and exports of it. The table itself comes [by Arrow Flight](../../flight.md).", []protoreflect.FullName{"rasterloom.merger.v1"}},
	{"types.md", "Grids and layers", "What the services share.", []protoreflect.FullName{"rasterloom.grid.v1", "rasterloom.layer.v1"}},
}

func write(in io.Reader, dir string) error {
	image, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(image, set); err != nil {
		return err
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	home := map[protoreflect.FullName]string{}
	for _, p := range pages {
		for _, name := range p.packages {
			home[name] = p.file
		}
	}
	for _, p := range pages {
		w := &page{home: home, file: p.file}
		w.line("# %s\n\n%s\n", p.title, p.about)
		w.line("Made from the contracts in `proto/` by `make generate`. Each call is served by Connect (JSON or binary, `POST /PACKAGE.SERVICE/METHOD`), gRPC and gRPC-Web on one port;")
		w.line("requests are checked against the rules before they are looked at. What goes wrong is told by one of [these reasons](../errors.md).\n")
		for _, name := range p.packages {
			files.RangeFilesByPackage(name, func(f protoreflect.FileDescriptor) bool {
				w.files = append(w.files, f)
				return true
			})
		}
		w.sort()
		for _, f := range w.files {
			for i := range f.Services().Len() {
				w.service(f.Services().Get(i))
			}
		}
		for _, f := range w.files {
			w.messages(f.Messages())
			w.enums(f.Enums())
		}
		if err := os.WriteFile(filepath.Join(dir, p.file), []byte(w.text.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// page is one file in the making.
type page struct {
	home  map[protoreflect.FullName]string
	file  string
	files []protoreflect.FileDescriptor
	text  strings.Builder
}

func (p *page) line(format string, args ...any) { fmt.Fprintf(&p.text, format+"\n", args...) }

func (p *page) sort() {
	for i := range p.files {
		for j := i; j > 0 && p.files[j].Path() < p.files[j-1].Path(); j-- {
			p.files[j], p.files[j-1] = p.files[j-1], p.files[j]
		}
	}
}

func (p *page) service(s protoreflect.ServiceDescriptor) {
	p.line("## %s\n\n%s\n", s.Name(), comment(s))
	p.line("Package `%s`.\n", s.ParentFile().Package())
	for i := range s.Methods().Len() {
		m := s.Methods().Get(i)
		answer := p.link(m.Output())
		if m.IsStreamingServer() {
			answer = "a stream of " + answer
		}
		p.line("### %s\n\n%s → %s", m.Name(), p.link(m.Input()), answer)
		if o, ok := m.Options().(*descriptorpb.MethodOptions); ok {
			switch o.GetIdempotencyLevel() {
			case descriptorpb.MethodOptions_NO_SIDE_EFFECTS:
				p.line("· changes nothing, and may be asked by `GET`")
			case descriptorpb.MethodOptions_IDEMPOTENT:
				p.line("· may be repeated")
			}
		}
		p.line("\n%s\n", comment(m))
	}
}

func (p *page) messages(list protoreflect.MessageDescriptors) {
	for i := range list.Len() {
		m := list.Get(i)
		if m.IsMapEntry() {
			continue
		}
		p.line("## %s\n\n%s\n", name(m), comment(m))
		if m.Fields().Len() > 0 {
			p.line("| field | type | rules | |\n| --- | --- | --- | --- |")
			for j := range m.Fields().Len() {
				f := m.Fields().Get(j)
				about := comment(f)
				if one := f.ContainingOneof(); one != nil && !one.IsSynthetic() {
					about = "One of `" + string(one.Name()) + "`. " + about
				}
				p.line("| `%s` | %s | %s | %s |", f.Name(), p.typeOf(f), cell(rules(f)), cell(about))
			}
			p.line("")
		}
		p.messages(m.Messages())
		p.enums(m.Enums())
	}
}

func (p *page) enums(list protoreflect.EnumDescriptors) {
	for i := range list.Len() {
		e := list.Get(i)
		p.line("## %s\n\n%s\n\n| value | number | |\n| --- | --- | --- |", name(e), comment(e))
		for j := range e.Values().Len() {
			v := e.Values().Get(j)
			p.line("| `%s` | %d | %s |", v.Name(), v.Number(), cell(comment(v)))
		}
		p.line("")
	}
}

// name is that of a message without its package.
func name(d protoreflect.Descriptor) string {
	return strings.TrimPrefix(string(d.FullName()), string(d.ParentFile().Package())+".")
}

// link names a message, and leads to where it is told of.
func (p *page) link(d protoreflect.Descriptor) string {
	file, ours := p.home[d.ParentFile().Package()]
	if !ours {
		return "`" + string(d.FullName()) + "`"
	}
	if file == p.file {
		file = ""
	}
	return fmt.Sprintf("[%s](%s#%s)", name(d), file, strings.ToLower(strings.ReplaceAll(name(d), ".", "")))
}

func (p *page) typeOf(f protoreflect.FieldDescriptor) string {
	var of string
	switch {
	case f.IsMap():
		return fmt.Sprintf("map of `%s` to %s", f.MapKey().Kind(), p.typeOf(f.MapValue()))
	case f.Message() != nil:
		of = p.link(f.Message())
	case f.Enum() != nil:
		of = p.link(f.Enum())
	default:
		of = "`" + f.Kind().String() + "`"
	}
	switch {
	case f.IsList():
		return "list of " + of
	case f.HasOptionalKeyword():
		return of + ", optional"
	}
	return of
}

// comment is what stands before a declaration, as one paragraph a paragraph.
func comment(d protoreflect.Descriptor) string {
	text := d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments
	paragraphs := strings.Split(strings.TrimSpace(text), "\n\n")
	for i, q := range paragraphs {
		paragraphs[i] = strings.Join(strings.Fields(q), " ")
	}
	return strings.Join(paragraphs, "\n\n")
}

// cell makes a text fit a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\n\n", "<br>"), "|", "\\|")
}

// rules are the validation rules of a field, in the words of protovalidate.
func rules(f protoreflect.FieldDescriptor) string {
	// The options were read without knowing the extension.
	raw, err := proto.Marshal(f.Options())
	if err != nil {
		return ""
	}
	options := &descriptorpb.FieldOptions{}
	if err := proto.Unmarshal(raw, options); err != nil {
		return ""
	}
	found, ok := proto.GetExtension(options, validate.E_Field).(*validate.FieldRules)
	if !ok || found == nil {
		return ""
	}
	return strings.Join(told(found.ProtoReflect(), ""), ", ")
}

func told(m protoreflect.Message, of string) []string {
	var list []string
	// Fields in the order of their numbers, which Range does not promise.
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			continue
		}
		v := m.Get(f)
		label := of + string(f.Name())
		switch {
		case f.Message() != nil && f.Message().FullName() == "google.protobuf.Duration":
			list = append(list, fmt.Sprintf("`%s` %ss", label, durationOf(v.Message())))
		case f.Message() != nil && !f.IsList():
			next := ""
			if f.Name() == "items" {
				next = "each: "
			}
			list = append(list, told(v.Message(), next)...)
		case f.IsList() && f.Message() != nil:
			for j := range v.List().Len() {
				list = append(list, told(v.List().Get(j).Message(), "")...)
			}
		case f.Kind() == protoreflect.BoolKind:
			list = append(list, "`"+label+"`")
		case f.IsList():
			for j := range v.List().Len() {
				list = append(list, fmt.Sprintf("`%s` `%v`", label, v.List().Get(j)))
			}
		default:
			list = append(list, fmt.Sprintf("`%s` `%v`", label, v))
		}
	}
	return list
}

func durationOf(m protoreflect.Message) string {
	seconds := m.Get(m.Descriptor().Fields().ByName("seconds")).Int()
	return fmt.Sprint(seconds)
}
