package bpf

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// privileges are what was told of a process, as text.
func privileges(r *recorder, pid int) (told []string) {
	for _, p := range matching(r, func(p *Privilege) bool { return int(p.PID) == pid }) {
		program := "?"
		for _, e := range r.execsOf(pid) {
			if e.Process == p.Process {
				program = filepath.Base(e.Executable)
			}
		}
		switch p.Kind {
		case PrivilegeGained:
			told = append(told, fmt.Sprintf("%s gained %d of user %d, now %d", program, len(p.Gained.Names()), p.EUIDBefore, p.EUID))
		case PrivilegeNamespaces:
			told = append(told, fmt.Sprintf("%s in %s", program, strings.Join(p.Namespaces.Names(), " ")))
		case PrivilegeSignal:
			told = append(told, fmt.Sprintf("%s sent %d", program, p.Signal))
		case PrivilegePackets:
			told = append(told, program+" sent packets")
		case PrivilegeBPF:
			told = append(told, program+" loaded "+p.Name)
		default:
			told = append(told, fmt.Sprintf("%+v", p))
		}
	}
	return told
}

// ownCapabilities is how many the test has, and is allowed to have.
func ownCapabilities(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(status), "\nCapEff:\t")
	line, _, _ = strings.Cut(line, "\n")
	set, err := strconv.ParseUint(line, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return len(Capabilities(set).Names())
}

// setuidCopy is a program that runs as root whoever starts it.
func setuidCopy(t *testing.T, program string) string {
	t.Helper()
	// t.TempDir is not to be entered by others.
	dir, err := os.MkdirTemp("/var/tmp", "sallyport-setuid")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, filepath.Base(program))
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o755, path: 0o755 | os.ModeSetuid} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestPrivileges(t *testing.T) {
	all := ownCapabilities(t)
	nobody := &syscall.SysProcAttr{Credential: &unixCredential}
	for _, c := range []struct {
		name    string
		command func() *exec.Cmd
		want    []string
	}{
		{"nothing", func() *exec.Cmd { return exec.Command("true") }, nil},
		{"another user's", func() *exec.Cmd {
			cmd := exec.Command("true")
			cmd.SysProcAttr = nobody
			return cmd
		}, nil},
		{"setuid program", func() *exec.Cmd {
			cmd := exec.Command(setuidCopy(t, "/bin/true"))
			cmd.SysProcAttr = nobody
			return cmd
		}, []string{fmt.Sprintf("true gained %d of user 65534, now 0", all)}},
		{"back to root", func() *exec.Cmd {
			return exec.Command("python3", "-c", "import os; os.setresuid(1, 1, 0); os.system('true'); os.setresuid(0, 0, 0)")
		}, []string{fmt.Sprintf("python gained %d of user 1, now 0", all)}},
		{"unshare", func() *exec.Cmd { return exec.Command("unshare", "--mount", "--net", "true") }, []string{"unshare in mnt net"}},
		{"user namespace", func() *exec.Cmd {
			cmd := exec.Command("unshare", "--user", "true")
			cmd.SysProcAttr = nobody
			return cmd
		}, []string{"unshare in user"}},
		{"clone", func() *exec.Cmd {
			cmd := exec.Command("true")
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUTS | unix.CLONE_NEWIPC}
			return cmd
		}, []string{"? in uts ipc"}},
		{"entered and never ran a program", func() *exec.Cmd {
			return exec.Command("python3", "-c", "import ctypes; ctypes.CDLL(None).unshare(0x04000000)")
		}, []string{"python in uts"}},
		{"signal", func() *exec.Cmd { return exec.Command("kill", "-CONT", fmt.Sprint(os.Getpid())) }, []string{"kill sent 18"}},
		{"packet socket", func() *exec.Cmd {
			return exec.Command("unshare", "--net", "python3", "-c", `import os, socket
os.system("ip link set lo up")
for _ in range(3):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind(("lo", 0x0800))
    s.send(b"\0" * 60)`)
		}, []string{"unshare in net", "python sent packets"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := record(t, Config{})
			pid := run(t, c.command())
			r.exitOf(t, pid)
			got := privileges(r, pid)
			for i := range got {
				// python3 is a link to python3.N.
				if _, rest, ok := strings.Cut(got[i], " "); ok && strings.HasPrefix(got[i], "python") {
					got[i] = "python " + rest
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// TestLoadedBPF: an eBPF program that somebody else loads.
func TestLoadedBPF(t *testing.T) {
	r := record(t, Config{})
	cmd := play(t, "open")
	pid := run(t, cmd)
	process := r.execsOf(pid)[0].Process
	loads := func(p *Privilege) bool { return p.Kind == PrivilegeBPF && int(p.PID) == pid }
	// They are loaded in any order.
	await(t, r, 1, "named program", func(p *Privilege) bool { return loads(p) && p.Name == "Tracing process_exec" })
	got := await(t, r, 10, "programs", loads)
	named := false
	for _, p := range got {
		if p.Process != process {
			t.Errorf("by %d, want %d", p.Process, process)
		}
		named = named || p.Name == "Tracing process_exec"
	}
	if !named {
		t.Errorf("no name among %d", len(got))
	}
}

// TestProgramFile: what is told of the file that a program came from.
func TestProgramFile(t *testing.T) {
	r := record(t, Config{})
	dir := t.TempDir()
	copied := filepath.Join(dir, "copied")
	content, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, content, 0o755); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(copied, &st); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	last := func(cmd *exec.Cmd) *Exec {
		pid := run(t, cmd)
		r.exitOf(t, pid)
		execs := r.execsOf(pid)
		return execs[len(execs)-1]
	}

	e := last(exec.Command(copied))
	if e.Inode != st.Ino || e.Changed != uint64(st.Ctim.Nano()) || e.Device != unix.Major(st.Dev)<<20|unix.Minor(st.Dev) {
		t.Errorf("inode %d on %x of %d, want %+v", e.Inode, e.Device, e.Changed, st)
	}
	if e.Deleted || e.InMemory || e.Script || e.EUID != 0 || len(e.Capabilities.Names()) != ownCapabilities(t) {
		t.Errorf("%+v", e)
	}
	if e := last(exec.Command(script)); !e.Script || e.Filename != script || filepath.Base(e.Executable) != "dash" && filepath.Base(e.Executable) != "bash" {
		t.Errorf("script: %+v", e)
	}
	e = last(exec.Command("python3", "-c", `import os
fd = os.memfd_create("x")
os.write(fd, open("/bin/true", "rb").read())
os.execve(fd, ["innocent"], {})`))
	if !e.InMemory || !e.Deleted || !strings.Contains(e.Executable, "memfd:x") {
		t.Errorf("in memory: %+v", e)
	}
	e = last(exec.Command("python3", "-c", fmt.Sprintf(`import os
fd = os.open(%q, os.O_RDONLY)
os.unlink(%q)
os.execve(fd, ["innocent"], {})`, copied, copied)))
	if e.InMemory || !e.Deleted || e.Inode != st.Ino {
		t.Errorf("deleted: %+v", e)
	}
	cmd := exec.Command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &unixCredential}
	if e := last(cmd); e.EUID != unixCredential.Uid || e.Capabilities != 0 {
		t.Errorf("another user's: %+v", e)
	}
}

// TestContainer: the first program of a control group, and its environment.
func TestContainer(t *testing.T) {
	r := record(t, Config{})
	root, err := findCgroup2("/proc/self/mountinfo")
	if err != nil || root == "" {
		t.Fatalf("no cgroup2: %v", err)
	}
	dir, err := os.MkdirTemp(root, "docker-test")
	if err != nil {
		t.Fatal(err)
	}
	var made *Cgroup
	defer func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
		await(t, r, 1, "removal", func(g *Cgroup) bool { return g.Removed && g.ID == made.ID })
	}()
	made = await(t, r, 1, "group", func(g *Cgroup) bool { return g.Path == "/"+filepath.Base(dir) })[0]
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	cmd := exec.Command("sh", "-c", "true; true")
	cmd.Env = []string{"HOLDS=this"}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
	pid := run(t, cmd)
	r.exitOf(t, pid)
	e := r.execsOf(pid)[0]
	if !e.Container || e.Cgroup != made.ID || e.Step {
		t.Errorf("%+v, group %d", e, made.ID)
	}
	env := matching(r, func(v *Environment) bool { return v.Process == e.Process })
	if len(env) != 1 || !strings.Contains(string(env[0].Data), "HOLDS=this\x00") {
		t.Errorf("environment %+v", env)
	}

	for _, below := range matching(r, func(x *Exec) bool { return x.Parent == e.Process }) {
		if below.Container || below.Cgroup != made.ID {
			t.Errorf("below: %+v", below)
		}
	}
}

// TestPassedSocket: who sends, if it is not who connected.
func TestPassedSocket(t *testing.T) {
	for _, c := range []struct{ kind, how string }{
		{"STREAM", "exec"}, {"STREAM", "fork"}, {"STREAM", "pass"},
		{"DGRAM", "exec"}, {"DGRAM", "fork"}, {"DGRAM", "pass"},
	} {
		t.Run(c.kind+" "+c.how, func(t *testing.T) {
			r := record(t, Config{})
			script := `import array, os, socket, sys
kind, how = getattr(socket, "SOCK_" + sys.argv[1]), sys.argv[2]
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
l = socket.socket(type=kind); l.bind(("127.0.0.1", 0))
if sys.argv[1] == "STREAM": l.listen()
child = os.fork() if how == "pass" else 0
if how == "pass" and child == 0:
    _, data, _, _ = b.recvmsg(1, socket.CMSG_LEN(4))
    os.write(array.array("i", data[0][2])[0], b"passed")
    os._exit(0)
s = socket.socket(type=kind); s.connect(l.getsockname())
if sys.argv[1] == "DGRAM": s.send(b"first")
if how == "pass":
    a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [s.fileno()]))])
    os.waitpid(child, 0)
elif how == "fork":
    child = os.fork()
    if child == 0:
        s.send(b"inherited"); s.send(b"again"); os._exit(0)
    os.waitpid(child, 0)
else:
    s.set_inheritable(True); l.set_inheritable(True)
    os.execvp("python3", ["python3", "-c", "import os; os.write(%d, b'inherited')" % s.fileno()])
`
			cmd := exec.Command("python3", "-c", script, c.kind, c.how)
			pid := run(t, cmd)
			r.exitOf(t, pid)
			began := matching(r, func(f *Flow) bool { return int(f.PID) == pid && f.State == FlowStarted && f.Direction == FlowOutbound })
			if len(began) != 1 {
				t.Fatalf("flows: %+v", began)
			}
			used := await(t, r, 1, "use", func(f *Flow) bool { return f.State == FlowUsed && f.ID == began[0].ID })
			if len(used) != 1 || used[0].Process == began[0].Process || used[0].Sent != 0 || used[0].Destination != began[0].Destination {
				t.Fatalf("%+v", used)
			}
			if c.how == "exec" {
				if execs := r.execsOf(pid); used[0].Process != execs[len(execs)-1].Process {
					t.Errorf("used by %d, want %+v", used[0].Process, execs[len(execs)-1])
				}
			} else if forks := matching(r, func(f *Fork) bool { return f.Process == used[0].Process && f.Parent == began[0].Process }); len(forks) != 1 {
				t.Errorf("used by %+v", used[0])
			}
		})
	}
}

// TestSocketUsedAfterExec needs no more than a shell.
func TestSocketUsedAfterExec(t *testing.T) {
	for _, protocol := range []string{"tcp", "udp"} {
		t.Run(protocol, func(t *testing.T) {
			r := record(t, Config{})
			var port int
			if protocol == "tcp" {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = l.Close() }() // nothing is read
				port = l.Addr().(*net.TCPAddr).Port
			} else {
				l, err := net.ListenPacket("udp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = l.Close() }() // nothing is read
				port = l.LocalAddr().(*net.UDPAddr).Port
			}
			pid := run(t, exec.Command("bash", "-c", fmt.Sprintf("exec 3<>/dev/%s/127.0.0.1/%d; echo first >&3; exec sh -c 'echo inherited >&3'", protocol, port)))
			r.exitOf(t, pid)
			began := matching(r, func(f *Flow) bool {
				return int(f.PID) == pid && f.State == FlowStarted && f.Direction == FlowOutbound
			})
			if len(began) != 1 {
				t.Fatalf("flows: %+v", began)
			}
			used := await(t, r, 1, "use", func(f *Flow) bool { return f.State == FlowUsed && f.ID == began[0].ID })
			if execs := r.execsOf(pid); len(used) != 1 || used[0].Process != execs[len(execs)-1].Process || used[0].Process == began[0].Process {
				t.Errorf("used %+v, want by %+v", used, execs[len(execs)-1])
			}
		})
	}
}
