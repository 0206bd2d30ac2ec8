package detector

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"google.golang.org/protobuf/reflect/protoreflect"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// inputVersion is PolicyInput.version.
const inputVersion = 2

// inputs turns PolicyInput messages into the documents that policies see: names as in the
// proto file, enumerations by their short lower-case names, every scalar present also when
// it is empty, so that a rule never meets an undefined field. It makes OPA's own values at
// once, and those of processes and steps once for a batch: this is done for each new
// behaviour. It is not safe for concurrent use.
type inputs struct {
	fields map[protoreflect.FullName][]inputField
	made   map[protoreflect.ProtoMessage]*ast.Term // of this batch
}

// inputField is a field of a message with its name as a term.
type inputField struct {
	protoreflect.FieldDescriptor
	name *ast.Term
	enum map[protoreflect.EnumNumber]*ast.Term
}

func newInputs() *inputs {
	return &inputs{fields: make(map[protoreflect.FullName][]inputField), made: make(map[protoreflect.ProtoMessage]*ast.Term)}
}

// forget drops what was made for a batch.
func (in *inputs) forget() { clear(in.made) }

func (in *inputs) of(m *sallyportv1.PolicyInput) ast.Value {
	return in.document(m.ProtoReflect()).Value
}

func (in *inputs) fieldsOf(d protoreflect.MessageDescriptor) []inputField {
	if known, ok := in.fields[d.FullName()]; ok {
		return known
	}
	fields := make([]inputField, d.Fields().Len())
	for i := range fields {
		x := d.Fields().Get(i)
		fields[i] = inputField{FieldDescriptor: x, name: ast.StringTerm(string(x.Name()))}
		if x.Kind() == protoreflect.EnumKind {
			fields[i].enum = make(map[protoreflect.EnumNumber]*ast.Term)
			for n := range x.Enum().Values().Len() {
				number := x.Enum().Values().Get(n).Number()
				fields[i].enum[number] = ast.StringTerm(enumName(x.Enum(), number))
			}
		}
	}
	in.fields[d.FullName()] = fields
	return fields
}

// shared says whether many inputs of a batch hold the same message.
func shared(m protoreflect.ProtoMessage) bool {
	switch m.(type) {
	case *sallyportv1.Process, *sallyportv1.Attribution:
		return true
	}
	return false
}

func (in *inputs) document(m protoreflect.Message) *ast.Term {
	message := m.Interface()
	keep := shared(message)
	if keep {
		if known := in.made[message]; known != nil {
			return known
		}
	}
	fields := in.fieldsOf(m.Descriptor())
	pairs := make([][2]*ast.Term, 0, len(fields))
	for i := range fields {
		f := &fields[i]
		switch {
		case f.IsList():
			list := m.Get(f.FieldDescriptor).List()
			values := make([]*ast.Term, list.Len())
			for j := range values {
				values[j] = in.value(f, list.Get(j))
			}
			pairs = append(pairs, [2]*ast.Term{f.name, ast.ArrayTerm(values...)})
		case f.IsMap(): // whose keys and values are strings
			entries := make([][2]*ast.Term, 0, m.Get(f.FieldDescriptor).Map().Len())
			m.Get(f.FieldDescriptor).Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
				entries = append(entries, [2]*ast.Term{ast.StringTerm(key.String()), ast.StringTerm(value.String())})
				return true
			})
			pairs = append(pairs, [2]*ast.Term{f.name, ast.ObjectTerm(entries...)})
		case f.Message() != nil && !m.Has(f.FieldDescriptor):
			// A message that is not there stays undefined.
		default:
			pairs = append(pairs, [2]*ast.Term{f.name, in.value(f, m.Get(f.FieldDescriptor))})
		}
	}
	made := ast.NewTerm(ast.NewObject(pairs...))
	if keep {
		in.made[message] = made
	}
	return made
}

func (in *inputs) value(f *inputField, v protoreflect.Value) *ast.Term {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return in.document(v.Message())
	case protoreflect.EnumKind:
		if t := f.enum[v.Enum()]; t != nil {
			return t
		}
		return ast.StringTerm(strconv.Itoa(int(v.Enum())))
	case protoreflect.BoolKind:
		return ast.InternedTerm(v.Bool())
	case protoreflect.StringKind:
		return ast.StringTerm(v.String())
	case protoreflect.BytesKind:
		return ast.StringTerm(string(v.Bytes()))
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind:
		return ast.NewTerm(ast.Number(json.Number(strconv.FormatUint(v.Uint(), 10))))
	default: // signed integers; the contract has no floating-point numbers
		return ast.NewTerm(ast.Number(json.Number(strconv.FormatInt(v.Int(), 10))))
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
