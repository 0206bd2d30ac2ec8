package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/sallyport-ci/sallyport/bpf"
)

// loss is what became of the records of one kind that a storm makes.
type loss struct {
	made, read, lost int
}

// measureLoss lets ten storms rage at once, each ten times as long as in the cost's loads,
// and adds up what was read and what the sensor says was lost: first with a reader, then
// with one that sleeps until all is over, so that much must be lost.
func measureLoss(ctx context.Context) error {
	fmt.Println("\n== Ten times the storm, ten at once: records made, read and counted as lost (goal: none missing)")
	fmt.Printf("%-10s %-10s %10s %10s %10s %10s\n", "storm", "reader", "made", "read", "lost", "missing")
	for _, s := range storms() {
		if s.name != "exec" && s.name != "connect" {
			continue // others make records of files that matter only
		}
		// Two calm ones say how many records there are for each event and for each storm.
		var calm [2]int
		few := s.events / 10
		for i := range calm {
			l, err := stormUnder(ctx, s, 1, few*(1+i), true)
			if err != nil {
				return err
			}
			if l.lost > 0 {
				return fmt.Errorf("%d records of a calm %s storm were lost", l.lost, s.name)
			}
			calm[i] = l.read
		}
		each := (calm[1] - calm[0]) / few
		fixed := calm[0] - each*few
		for _, reading := range []bool{true, false} {
			l, err := stormUnder(ctx, s, 10, s.events, reading)
			if err != nil {
				return err
			}
			l.made = 10 * (each*s.events + fixed)
			name := map[bool]string{true: "reads", false: "sleeps"}[reading]
			fmt.Printf("%-10s %-10s %10d %10d %10d %10d\n", s.name, name, l.made, l.read, l.lost, l.made-l.read-l.lost)
		}
	}
	return nil
}

// stormUnder runs some storms at once under a sensor of its own.
func stormUnder(ctx context.Context, s storm, storms, events int, reading bool) (l loss, err error) {
	self, err := os.Executable()
	if err != nil {
		return l, err
	}
	sensor, err := bpf.Open(bpf.Config{})
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, sensor.Close()) }()
	kind := map[string]string{"exec": "exec", "connect": "flow"}[s.name]
	before, err := sensor.Lost()
	if err != nil {
		return l, err
	}
	read := make(map[uint32]int) // by process; those of execs are counted under 0
	reader := make(chan error, 1)
	start := func() {
		for {
			r, err := sensor.Read()
			if errors.Is(err, os.ErrClosed) {
				reader <- nil
				return
			}
			if err != nil {
				reader <- err
				return
			}
			switch r := r.(type) {
			case *bpf.Exec:
				if s.name == "exec" && !r.Found && filepath.Base(r.Executable) == "true" {
					read[0]++
				}
			case *bpf.Flow:
				read[r.PID]++
			}
		}
	}
	if reading {
		go start()
	}
	var running sync.WaitGroup
	pids := make([]uint32, storms)
	failed := make([]error, storms)
	for n := range storms {
		cmd := exec.CommandContext(ctx, self, "storm", s.name, strconv.Itoa(events))
		if err := cmd.Start(); err != nil {
			return l, err
		}
		pids[n] = uint32(cmd.Process.Pid)
		running.Go(func() { failed[n] = cmd.Wait() })
	}
	running.Wait()
	after, lostErr := sensor.Lost()
	if err := errors.Join(errors.Join(failed...), lostErr, sensor.Close()); err != nil {
		return l, err
	}
	if !reading {
		go start()
	}
	if err := <-reader; err != nil {
		return l, err
	}
	if s.name == "exec" {
		l.read = read[0]
	} else {
		for _, pid := range pids {
			l.read += read[pid]
		}
	}
	l.lost = int(after[kind] - before[kind])
	return l, nil
}
