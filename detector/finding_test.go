package detector

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// A verdict has its severest findings whole, however many came before them, and fits into a
// message however long their arguments are.
func TestVerdictKeepsTheSeverest(t *testing.T) {
	x := &execution{told: make(map[string]bool), Facts: []byte{8, 1}, attribution: &sallyportv1.Attribution{Repository: "acme/shop", Job: "build"}}
	tell := func(n int, severity sallyportv1.Severity) {
		f := &sallyportv1.Finding{
			Id: fmt.Sprintf("%032d", n), Time: timestamppb.New(timestamppb.Now().AsTime()), Message: fmt.Sprint("finding ", n),
			Policy: &sallyportv1.Policy{Id: "p", Severity: severity, Class: sallyportv1.PolicyClass_POLICY_CLASS_THREAT}, Behaviour: &sallyportv1.Behaviour{Target: "x"},
		}
		for range 32 {
			f.Ancestry = append(f.Ancestry, &sallyportv1.Process{Executable: "/bin/sh", Arguments: []string{strings.Repeat("ä", 64<<10), strings.Repeat("b", 64<<10)}})
		}
		x.tell(f)
	}
	for n := range 200 {
		tell(n, sallyportv1.Severity_SEVERITY_LOW)
	}
	tell(500, sallyportv1.Severity_SEVERITY_CRITICAL)
	for n := range 20 {
		tell(600+n, sallyportv1.Severity_SEVERITY_MEDIUM)
	}
	v := (&Engine{config: EngineConfig{RunsNeeded: 5}}).conclude(x)
	if len(v.GetFindings()) != maxBriefs || len(v.GetFindingIds()) != 221 {
		t.Fatalf("%d findings, %d identities", len(v.GetFindings()), len(v.GetFindingIds()))
	}
	if f := v.GetFindings()[0]; f.GetId() != fmt.Sprintf("%032d", 500) || len(f.GetAncestry()) == 0 {
		t.Errorf("first %s with %d processes", f.GetId(), len(f.GetAncestry()))
	}
	for i, f := range v.GetFindings() {
		if want := v.GetFindingIds()[i]; i <= 20 && f.GetId() != want {
			t.Errorf("finding %d is %s, want %s", i, f.GetId(), want)
		}
	}
	if size := proto.Size(v); size > 512<<10 {
		t.Errorf("%d bytes", size)
	}
}
