package bpf

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
)

// attachNetwork attaches the hooks of sockets and packets, and enters the sockets
// that are open already.
func (s *Sensor) attachNetwork(root *cgroupRoot) error {
	for _, hook := range []struct {
		program *ebpf.Program
		at      ebpf.AttachType
	}{
		{s.objects.SocketCreate, ebpf.AttachCGroupInetSockCreate},
		{s.objects.SocketConnect4, ebpf.AttachCGroupInet4Connect},
		{s.objects.SocketConnect6, ebpf.AttachCGroupInet6Connect},
		{s.objects.SocketSendmsg4, ebpf.AttachCGroupUDP4Sendmsg},
		{s.objects.SocketSendmsg6, ebpf.AttachCGroupUDP6Sendmsg},
		{s.objects.SocketRelease, ebpf.AttachCgroupInetSockRelease},
		{s.objects.PacketOut, ebpf.AttachCGroupInetEgress},
		{s.objects.PacketIn, ebpf.AttachCGroupInetIngress},
	} {
		l, err := root.attach(hook.program, hook.at)
		if err != nil {
			return err
		}
		s.keep(programName(hook.program), l)
	}
	if err := s.attachTracing(s.objects.TcpState); err != nil {
		return err
	}
	return s.enterSockets()
}

// startSweeping reports flows that go on and ends UDP flows that are idle, until
// stop is closed.
func (s *Sensor) startSweeping(cfg Config) {
	every := max(min(cfg.FlowInterval, cfg.FlowIdle)/6, 20*time.Millisecond)
	s.stopSweeping = make(chan struct{})
	s.sweeping.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-s.stopSweeping:
				return
			case <-ticker.C:
				if err := s.sweep(); err != nil && s.sweepErr == nil {
					s.sweepErr = err
				}
			}
		}
	})
}

func (s *Sensor) sweep() error {
	for _, program := range []*ebpf.Program{s.objects.SweepTcp, s.objects.SweepUdp} {
		if _, err := program.Run(&ebpf.RunOptions{}); err != nil {
			return fmt.Errorf("walk flows: %w", err)
		}
	}
	return nil
}

func (c *cursor) address() netip.Addr {
	return netip.AddrFrom16([16]byte(c.bytes(16))).Unmap()
}

func decodeFlow(c *cursor, h Header) *Flow {
	f := &Flow{Header: h, ID: c.u64(), Started: c.u64(), Sent: c.u64(), Received: c.u64()}
	source, destination := c.address(), c.address()
	f.Source = netip.AddrPortFrom(source, c.u16())
	f.Destination = netip.AddrPortFrom(destination, c.u16())
	f.Errno = c.u16()
	f.State = FlowState(c.u8())
	f.Protocol = c.u8()
	f.Established = c.u8() != 0
	f.Direction = FlowDirection(c.u8())
	c.bytes(6)
	return f
}

func decodeDNS(c *cursor, h Header) *DNS {
	d := &DNS{Header: h}
	server := c.address()
	d.Server = netip.AddrPortFrom(server, c.u16())
	d.Port = c.u16()
	d.Size = c.u32()
	length := c.u16()
	d.Response = c.u8() != 0
	c.bytes(5)
	d.Payload = c.bytes(int(length))
	return d
}
