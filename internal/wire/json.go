package wire

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// strictJSON is Connect's JSON, but for what it makes of a field or an enum value
// that the contract does not have: Connect's own codec leaves it out. A request is
// written by hand, and one that is half understood gives an answer to another
// question.
type strictJSON struct{ name string }

// Name implements connect.Codec.
func (j strictJSON) Name() string { return j.name }

// Marshal implements connect.Codec.
func (strictJSON) Marshal(message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no message", message)
	}
	return protojson.Marshal(m)
}

// Unmarshal implements connect.Codec.
func (strictJSON) Unmarshal(text []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no message", message)
	}
	if len(text) == 0 {
		return errors.New("an empty body is no JSON object: send {}")
	}
	return protojson.Unmarshal(text, m)
}
