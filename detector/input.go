package detector

import (
	"encoding/json"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// inputVersion is PolicyInput.version.
const inputVersion = 2

// policyInput turns the message into the document that policies see: names as in
// the proto file, enumerations by their short lower-case names, every scalar
// present also when it is empty, so that a rule never meets an undefined field.
func policyInput(in *sallyportv1.PolicyInput) map[string]any {
	return document(in.ProtoReflect())
}

func document(m protoreflect.Message) map[string]any {
	fields := m.Descriptor().Fields()
	doc := make(map[string]any, fields.Len())
	for i := range fields.Len() {
		f := fields.Get(i)
		name := string(f.Name())
		switch {
		case f.IsList():
			list := m.Get(f).List()
			values := make([]any, list.Len())
			for j := range values {
				values[j] = value(f, list.Get(j))
			}
			doc[name] = values
		case f.Message() != nil && !m.Has(f):
			// A message that is not there stays undefined.
		default:
			doc[name] = value(f, m.Get(f))
		}
	}
	return doc
}

func value(f protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return document(v.Message())
	case protoreflect.EnumKind:
		return enumName(f.Enum(), v.Enum())
	case protoreflect.BoolKind:
		return v.Bool()
	case protoreflect.StringKind:
		return v.String()
	case protoreflect.BytesKind:
		return v.Bytes()
	default: // integers; the contract has no floating-point numbers
		return json.Number(v.String())
	}
}

// enumName drops the type's name: BEHAVIOUR_KIND_EGRESS becomes "egress".
func enumName(e protoreflect.EnumDescriptor, n protoreflect.EnumNumber) string {
	v := e.Values().ByNumber(n)
	if v == nil {
		return strconv.Itoa(int(n))
	}
	prefix := strings.TrimSuffix(string(e.Values().ByNumber(0).Name()), "UNSPECIFIED")
	return strings.ToLower(strings.TrimPrefix(string(v.Name()), prefix))
}
