package agent

import (
	"errors"
	"testing"

	"github.com/sallyport-ci/sallyport/bpf"
)

// TestUsers: from its start on, an agent that a job has started has one job that counts on it;
// others may come to, until it is to end and none does.
func TestUsers(t *testing.T) {
	a := newTallying(t)
	a.cfg.EndsWithJobs, a.cfg.BeginsJob, a.cfg.Self = true, true, 5<<10
	use := func(pid uint32, begins bool) error { return a.Use(t.Context(), pid, begins) }
	if n := a.Users(); n != 1 {
		t.Errorf("before it has heard of its own process: %d", n)
	}
	// Two jobs run already: of worker 20, which started it, and of worker 10.
	found := func(process, parent uint64, pid uint32, change func(*bpf.Exec)) {
		r := &bpf.Exec{Header: a.head(process, pid), Found: true, Parent: parent, Executable: "/bin/sh"}
		change(r)
		a.record(r)
	}
	environment := func(process uint64, pid uint32, run string) {
		data := []byte("GITHUB_REPOSITORY=acme/shop\x00GITHUB_RUN_ID=" + run + "\x00GITHUB_JOB=build\x00GITHUB_ACTION=test\x00")
		a.record(&bpf.Environment{Header: a.head(process, pid), Data: data, Size: uint32(len(data))})
	}
	isWorker, isStep := func(r *bpf.Exec) { r.Worker = true }, func(r *bpf.Exec) { r.Step = true }
	found(1<<10, 0, 20, isWorker)
	found(2<<10, 0, 10, isWorker)
	environment(3<<10, 21, "20")
	found(3<<10, 1<<10, 21, isStep)
	environment(4<<10, 11, "10")
	found(4<<10, 2<<10, 11, isStep)
	found(5<<10, 3<<10, 22, func(*bpf.Exec) {})
	if n := a.Users(); n != 1 {
		t.Errorf("when it has: %d", n)
	}
	if r := a.mustReport(t, 21); r.GetGaps().GetBeganBefore() {
		t.Error("the job whose first step started it is not held to be whole")
	}
	if r := a.mustReport(t, 11); !r.GetGaps().GetBeganBefore() {
		t.Error("a job that ran before it is held to be whole")
	}
	if err := use(99, true); !errors.Is(err, ErrNoUser) {
		t.Errorf("of no job: %v", err)
	}
	if err := use(11, true); err != nil {
		t.Error(err)
	}
	if r := a.mustReport(t, 11); r.GetGaps().GetBeganBefore() {
		t.Error("a job whose first step is there is not held to be whole")
	}
	if n := a.Users(); n != 2 || a.EndUnlessUsed() {
		t.Errorf("%d, and it may end", n)
	}
	a.record(&bpf.Exit{Header: a.head(2<<10, 10), Worker: true})
	if n := a.Users(); n != 1 || !a.EndUnlessUsed() {
		t.Errorf("%d, and it may not end", n)
	}
	if err := use(21, false); !errors.Is(err, ErrEnds) {
		t.Errorf("counts on an agent that ends: %v", err)
	}
	if _, err := (&Reports{Agent: a.Agent}).Of(t.Context(), Asker{PID: 21}, "", 0); !errors.Is(err, ErrEnds) {
		t.Errorf("report of an agent that ends: %v", err)
	}
}

// TestLastUserGoes: the job that started it may end first; it ends with the other.
func TestLastUserGoes(t *testing.T) {
	a := newTallying(t)
	a.cfg.EndsWithJobs = true
	a.foundSelf = true
	first, second := a.start("1", 10, 11), a.start("2", 20, 21)
	for _, pid := range []uint32{11, 21} {
		if err := a.Use(t.Context(), pid, false); err != nil {
			t.Fatal(err)
		}
	}
	worker := func(of uint64) *bpf.Exit {
		w := a.processes.get(of).ofWorker().message
		return &bpf.Exit{Header: a.head(w.GetId(), w.GetPid()), Worker: true}
	}
	a.record(worker(first))
	select {
	case <-a.Unused():
		t.Fatal("it ends while a job counts on it")
	default:
	}
	a.record(worker(second))
	select {
	case <-a.Unused():
	default:
		t.Error("nobody counts on it, and it goes on")
	}
	a.start("3", 30, 31)
	if err := a.Use(t.Context(), 31, true); !errors.Is(err, ErrEnds) || !a.Ends() {
		t.Errorf("a job counts on an agent that ends: %v", err)
	}
}
