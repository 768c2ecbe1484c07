package socketlb

import (
	"encoding/binary"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/netns"
)

// Offsets in struct bpf_sock_addr.
const (
	sockAddrIP4      = 4
	sockAddrIP6      = 8
	sockAddrProtocol = 36
)

// The keys and values of the maps that the programs and this package share. Addresses are in network order; IPv4 addresses are mapped into IPv6,
// as they are by sockets that speak both. The map of peers is the programs' own: by socket cookie, the virtual address and after it the backend's.
type (
	serviceKey struct {
		Sandbox uint64 // the network namespace's cookie
		VIP     [16]byte
	}
	serviceValue struct {
		Count, Generation, Next uint32
		_                       uint32
	}
	backendKey struct {
		Sandbox          uint64
		VIP              [16]byte
		Generation, Slot uint32
	}
)

// Offsets of these on the programs' stacks.
const (
	stackService = -24
	stackBackend = -56
	stackCookie  = -64
	stackPeer    = -96
)

// sockAddr is how programs for sockets of one family (AF_INET or AF_INET6) are attached, and where they find the address.
type sockAddr struct {
	suffix               string
	connect, getpeername ebpf.AttachType
	// words are the offsets of the address's four words in struct bpf_sock_addr; 0 for those that an IPv4 address lacks.
	words [4]int16
}

func sockAddrs() []sockAddr {
	four := sockAddr{"4", ebpf.AttachCGroupInet4Connect, ebpf.AttachCgroupInet4GetPeername, [4]int16{3: sockAddrIP4}}
	six := sockAddr{"6", ebpf.AttachCGroupInet6Connect, ebpf.AttachCgroupInet6GetPeername, [4]int16{sockAddrIP6, sockAddrIP6 + 4, sockAddrIP6 + 8, sockAddrIP6 + 12}}
	if !netns.HasIPv6() {
		return []sockAddr{four}
	}
	return []sockAddr{four, six}
}

// copyDestination copies the address that is connected to into the two keys and the peer.
func (a sockAddr) copyDestination() asm.Instructions {
	var out asm.Instructions
	mapped := [4]int32{2: int32(binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff}))}
	for i, at := range a.words {
		if at == 0 {
			out = append(out, asm.Mov.Imm(asm.R7, mapped[i]))
		} else {
			out = append(out, asm.LoadMem(asm.R7, asm.R6, at, asm.Word))
		}
		word := int16(4 * i)
		out = append(out, asm.StoreMem(asm.RFP, stackService+8+word, asm.R7, asm.Word), asm.StoreMem(asm.RFP, stackBackend+8+word, asm.R7, asm.Word),
			asm.StoreMem(asm.RFP, stackPeer+word, asm.R7, asm.Word))
	}
	return out
}

// setBackend replaces the address by that of the backend at R0, and notes it in the peer.
func (a sockAddr) setBackend() asm.Instructions {
	var out asm.Instructions
	for i, at := range a.words {
		word := int16(4 * i)
		out = append(out, asm.LoadMem(asm.R8, asm.R0, word, asm.Word), asm.StoreMem(asm.RFP, stackPeer+16+word, asm.R8, asm.Word))
		if at != 0 {
			out = append(out, asm.StoreMem(asm.R6, at, asm.R8, asm.Word))
		}
	}
	return out
}

// restoreVIP replaces the address by the virtual one of the peer at R0, if it is that of its backend.
func (a sockAddr) restoreVIP() asm.Instructions {
	var compare, replace asm.Instructions
	for i, at := range a.words {
		if at == 0 {
			continue
		}
		word := int16(4 * i)
		compare = append(compare, asm.LoadMem(asm.R1, asm.R6, at, asm.Word), asm.LoadMem(asm.R2, asm.R0, 16+word, asm.Word), asm.JNE.Reg(asm.R1, asm.R2, "pass"))
		replace = append(replace, asm.LoadMem(asm.R2, asm.R0, word, asm.Word), asm.StoreMem(asm.R6, at, asm.R2, asm.Word))
	}
	return append(compare, replace...)
}

// fetchAdd adds by to the word at base+offset, atomically, and puts into by what was there before. The library's instruction lacks BPF_FETCH, which
// asks for that, so it is set here; the test of an even spread would fail if the library changed.
func fetchAdd(base, by asm.Register, offset int16) asm.Instruction {
	i := asm.FetchAdd.Mem(base, by, asm.Word, offset)
	i.Constant = int64(asm.FetchAdd >> 8)
	return i
}

// connectProgram connects a TCP socket that connects to a virtual address to the service's next backend, and notes both in the map of peers. It
// leaves every other socket alone.
func (a sockAddr) connectProgram(services, backends, peers *ebpf.Map) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Name: "shoal_connect" + a.suffix, Type: ebpf.CGroupSockAddr, AttachType: a.connect, License: "GPL",
		Instructions: slices.Concat(asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadMem(asm.R2, asm.R6, sockAddrProtocol, asm.Word),
			asm.JNE.Imm(asm.R2, unix.IPPROTO_TCP, "pass"),
			asm.FnGetNetnsCookie.Call(),
			asm.StoreMem(asm.RFP, stackService, asm.R0, asm.DWord),
			asm.StoreMem(asm.RFP, stackBackend, asm.R0, asm.DWord),
		}, a.copyDestination(), asm.Instructions{
			asm.LoadMapPtr(asm.R1, services.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stackService),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"),
			// The slot is the service's counter modulo the number of backends.
			asm.Mov.Imm(asm.R1, 1),
			fetchAdd(asm.R0, asm.R1, 8),
			asm.LoadMem(asm.R2, asm.R0, 0, asm.Word),
			asm.JEq.Imm(asm.R2, 0, "pass"),
			asm.Mod.Reg32(asm.R1, asm.R2),
			asm.LoadMem(asm.R3, asm.R0, 4, asm.Word),
			asm.StoreMem(asm.RFP, stackBackend+24, asm.R3, asm.Word),
			asm.StoreMem(asm.RFP, stackBackend+28, asm.R1, asm.Word),
			asm.LoadMapPtr(asm.R1, backends.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stackBackend),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"), // the backends are being replaced at this moment: the nftables rules choose
		}, a.setBackend(), asm.Instructions{
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.FnGetSocketCookie.Call(),
			asm.StoreMem(asm.RFP, stackCookie, asm.R0, asm.DWord),
			asm.LoadMapPtr(asm.R1, peers.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stackCookie),
			asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, stackPeer),
			asm.Mov.Imm(asm.R4, 0),
			asm.FnMapUpdateElem.Call(),
			asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"),
			asm.Return(),
		}),
	}
}

// peerProgram makes getpeername(2) name the virtual address that the application connected to.
func (a sockAddr) peerProgram(peers *ebpf.Map) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Name: "shoal_peer" + a.suffix, Type: ebpf.CGroupSockAddr, AttachType: a.getpeername, License: "GPL",
		Instructions: slices.Concat(asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.FnGetSocketCookie.Call(),
			asm.StoreMem(asm.RFP, stackCookie, asm.R0, asm.DWord),
			asm.LoadMapPtr(asm.R1, peers.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stackCookie),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"),
		}, a.restoreVIP(), asm.Instructions{
			asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"),
			asm.Return(),
		}),
	}
}
