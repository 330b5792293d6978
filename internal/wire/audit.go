package wire

import (
	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// AuditLog is the name of the log that has one line for each call that changes
// something, or tried to: who, what, and what came of it. boot writes it whatever
// the level of the other lines is.
const AuditLog = "audit"

// maxAuditedRequest is how much of a request an audit line quotes, in bytes.
const maxAuditedRequest = 4 << 10

// changesByFlight are the calls of Arrow Flight that can change something.
var changesByFlight = map[string]bool{"DoPut": true, "DoExchange": true, "DoAction": true}

// changes says whether a call can change something: all of our contracts' that
// they do not call free of side effects, whether it was let in or not. What is
// streamed out is only watched.
func changes(c *call) bool {
	service, method := c.names()
	if service == "arrow.flight.protocol.FlightService" {
		return changesByFlight[method]
	}
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + method))
	if err != nil {
		return false
	}
	m, ok := found.(protoreflect.MethodDescriptor)
	if !ok || m.IsStreamingServer() {
		return false
	}
	options, _ := m.Options().(*descriptorpb.MethodOptions)
	return options.GetIdempotencyLevel() != descriptorpb.MethodOptions_NO_SIDE_EFFECTS
}

// writeAudit puts the audit line of the call into the log.
func (c *call) writeAudit(log *zap.Logger) {
	if !changes(c) {
		return
	}
	fields := []zap.Field{
		zap.String("method", c.method),
		zap.String("code", codeName(c.code())),
		zap.String("peer", c.peer),
		zap.String("principal", c.principal),
		zap.String("request_id", c.id),
	}
	if c.request != nil {
		// What cannot be written as JSON is told by the error of the call.
		text, _ := protojson.Marshal(c.request)
		if len(text) > maxAuditedRequest {
			text = append(text[:maxAuditedRequest:maxAuditedRequest], " …"...)
		}
		fields = append(fields, zap.String("request", string(text)))
	}
	log.Named(AuditLog).Info("audit", append(fields, c.notes...)...)
}
