package detector

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// FuzzInput: whatever an input holds, its document says it, and no policy fails on it: one that
// fails judges nothing.
func FuzzInput(f *testing.F) {
	p, problems, err := LoadPolicies(f.Context(), "")
	if err != nil || len(problems) > 0 {
		f.Fatal(err, problems)
	}
	for n := range sallyportv1.BehaviourKind_name {
		for _, text := range []string{"", "x", "/tmp/x.sh", "a.example.test", "--", "\xff", "$(id)"} {
			data, err := proto.Marshal(&sallyportv1.PolicyInput{
				Version: inputVersion, Behaviour: &sallyportv1.Behaviour{
					Kind: sallyportv1.BehaviourKind(n), Program: valid(text), Target: valid(text), Domain: valid(text), TargetArguments: []string{valid(text)}, Path: valid(text), Method: "POST",
				},
				Process:  &sallyportv1.Process{Executable: valid(text), Arguments: []string{valid(text), "-c", valid(text)}, Script: valid(text)},
				Ancestry: []*sallyportv1.Process{{Executable: valid(text), Arguments: []string{"npm", "ci"}}}, Job: &sallyportv1.Attribution{Repository: "acme/shop"},
				Baseline: &sallyportv1.BaselineFacts{Stable: true},
			})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := new(sallyportv1.PolicyInput)
		if proto.Unmarshal(data, in) != nil || in.GetBehaviour() == nil || len(data) > 1<<16 {
			return
		}
		if in.Process == nil {
			in.Process = &sallyportv1.Process{}
		}
		document := newInputs().of(in)
		kind, err := KindOf(document)
		if err != nil {
			return // a kind of a later version
		}
		if kind != in.GetBehaviour().GetKind() {
			t.Fatalf("kind %s became %s", in.GetBehaviour().GetKind(), kind)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		looking := p.set.Load().of(kind)
		if looking == nil {
			return
		}
		for _, a := range looking.ask(ctx, document) {
			if a.err != nil {
				t.Errorf("%v", a.err)
			}
		}
	})
}

// TestLabelsInInput: a map is an object, also an empty one.
func TestLabelsInInput(t *testing.T) {
	for _, want := range []map[string]any{{}, {"actions.github.com/scale-set-name": "arc", "x": ""}} {
		labels := make(map[string]string)
		for name, value := range want {
			labels[name] = value.(string)
		}
		document := newInputs().of(&sallyportv1.PolicyInput{Process: &sallyportv1.Process{Container: &sallyportv1.Container{Id: "c", PodLabels: labels}}})
		got, err := ast.JSON(document)
		if err != nil {
			t.Fatal(err)
		}
		container := got.(map[string]any)["process"].(map[string]any)["container"].(map[string]any)
		if found := container["pod_labels"]; !reflect.DeepEqual(found, any(want)) {
			t.Errorf("%v, want %v", found, want)
		}
	}
}

// valid is text as protobuf takes it.
func valid(s string) string {
	if s == "\xff" {
		return "\uFFFD"
	}
	return s
}
